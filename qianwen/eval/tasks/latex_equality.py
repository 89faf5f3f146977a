r"""Whether two final answers of MATH are the same, as the benchmark's authors compare them (Hendrycks et al., 2021).

Both are brought to one form, and the forms are compared as text:

    \dfrac12, \tfrac{1}{2}, 1/2 → \frac{1}{2}      \sqrt2 → \sqrt{2}      .5 → 0.5      x = 5 → 5
    units, \text{…} after a value, $, %, \%, degrees, spaces, \left, \right and thousands separators are dropped

Beyond the published comparison, rational numbers are equal by value (0.25 and \frac{1}{4}, 3\frac{1}{2} and 7/2), and
tuples, intervals and lists are equal if their parts are. Nothing is computed: \sqrt{8} is not 2\sqrt{2}.
"""

import re
from fractions import Fraction

REWRITE = (  # applied in this order
    (r"\\[!,;:]|\\ |~|\\quad|\\qquad|\\displaystyle", " "),
    (r"\\(?:left|right)(?![a-z])|\\[bB]igg?[lr]?(?![A-Za-z])", ""),
    (r"\\[dtc]frac", r"\\frac"),
    (r"\^\s*\{?\s*\\circ\s*\}?|\\degree|°|\\%|%|\\\$|\$", ""),
    (r"(?<=[\d})])\s*\\(?:text|mbox|mathrm|textrm)\s*\{[^{}]*\}(?:\s*\^\s*\{?\d\}?)?.*$", ""),
    (r"\\(?:text|mbox|mathrm|textrm|textbf|mathbf)\s*\{([^{}]*)\}", r"\1"),
    (r"(?<=\d)\s+[A-Za-z]{2,}(?:\s+[A-Za-z]+)*(?:\s*\^\s*\{?\d\}?)?\s*$", ""),
    (r"(?<=\d)(?:\{,\}|,)(?=\d{3}(?!\d))", ""),
    (r"\\le(?![a-z])", r"\\leq"),
    (r"\\ge(?![a-z])", r"\\geq"),
    (r"\\ne(?![a-z])", r"\\neq"),
    (r"\s+", ""),
    (r"^[A-Za-z]{1,2}=(?=[^=]*$)", ""),
    (r"(?<![\d}])\.(?=\d)", "0."),
    (r"\\sqrt(\w)", r"\\sqrt{\1}"),
    (r"\\frac(\w)(\w)", r"\\frac{\1}{\2}"),
    (r"\\frac(\w)\{", r"\\frac{\1}{"),
    (r"\\frac(\{[^{}]*\})(\w)", r"\\frac\1{\2}"),
    (r"^(-?)(\d+)/(\d+)$", r"\1\\frac{\2}{\3}"),
    (r"\\frac\{-(\d+)\}", r"-\\frac{\1}"),
)
LONGEST_NUMBER = 1000  # characters; Python refuses to read integers of several thousand digits
MIXED = re.compile(r"(-?)(\d+)?\\frac\{(\d+)\}\{(\d+)\}")
BRACKETS = {"(": ")", "[": "]", "\\{": "\\}"}


def is_same_formula(left: str, right: str) -> bool:
    """Whether two formulas are the same final answer."""
    return _is_same(normal_form(left), normal_form(right))


def normal_form(formula: str) -> str:
    """The form in which formulas are compared."""
    text = formula.strip().rstrip(".").replace("−", "-")
    for pattern, replacement in REWRITE:
        text = re.sub(pattern, replacement, text)
    return text


def _is_same(left: str, right: str) -> bool:
    if left == right:
        return True
    values = _value(left), _value(right)
    if values[0] is not None and values[1] is not None:
        return values[0] == values[1]
    parts = _parts(left), _parts(right)
    if parts[0][0] != parts[1][0] or not 1 < len(parts[0][1]) == len(parts[1][1]):
        return False
    return all(_is_same(normal_form(a), normal_form(b)) for a, b in zip(parts[0][1], parts[1][1], strict=True))


def _value(text: str) -> Fraction | None:
    """The value of an integer, a decimal, a fraction of integers or a mixed number."""
    if len(text) > LONGEST_NUMBER:
        return None
    if re.fullmatch(r"[-+]?\d+(?:\.\d*)?", text):
        return Fraction(text.rstrip("."))
    if (match := MIXED.fullmatch(text)) and int(match[4]):
        value = int(match[2] or 0) + Fraction(int(match[3]), int(match[4]))
        return -value if match[1] else value
    return None


def _parts(text: str) -> tuple[str, list[str]]:
    """The brackets around a list, and what its commas separate; commas inside brackets do not."""
    brackets = ""
    for opening, closing in ((a, b) for a in BRACKETS for b in BRACKETS.values()):
        if text.startswith(opening) and text.endswith(closing):
            brackets, text = opening + closing, text[len(opening) : -len(closing)]
            break
    parts, depth = [""], 0
    for character in text:
        depth += {"(": 1, "[": 1, "{": 1, ")": -1, "]": -1, "}": -1}.get(character, 0)
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return brackets, parts
