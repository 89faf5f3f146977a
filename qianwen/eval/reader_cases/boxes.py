r"""Solutions in LaTeX with a \boxed{…}. `%` is the formula that a person reads as the answer."""

from collections.abc import Iterator

from qianwen.chat.answers import boxed
from qianwen.eval.reader_cases.case import Case

FORMULAS = (
    "18", "-3", r"\frac{1}{2}", r"\sqrt{2}", r"\frac{\sqrt{3}}{2}", "x^2 + 1", "(3, 4)", r"\{1, 2\}", r"\text{yes}",
    r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "1{,}234", r"\left\{ x \mid x > 0 \right\}", r"90^\circ", r"25\%",
    "[0, 1)", r"\dfrac{a}{b + \frac{1}{c}}", r"\$5.20", "2^{10}", r"\infty", r"e^{\pi i} + 1",
)  # fmt: skip
TEMPLATES = {
    "ordinary": (r"So the answer is $\boxed{%}$.", r"\boxed{%}"),
    "displayed": ("\\[\n\\boxed{%}\n\\]", r"$$ x = \boxed{%} $$ as we wanted."),
    "several boxes": (r"First $\boxed{31}$, then $\boxed{%}$.", r"\boxed{a}, \boxed{b} and finally \boxed{%}"),
    "spaces": (r"\boxed {%}", r"\boxed{ % }", "\\boxed{\n%\n}"),
    "another command": (r"\fbox{%}", r"$\mathbf{x} = \boxed{%}$ where $\mathbf{x} \in \{a, b\}$"),
    "braces after": (r"\boxed{%} because \{n : n > 3\} is not empty {", r"\boxed{%} \text{ for } x_{1}"),
    "cut in a later box": (r"So \boxed{%}. To check: \boxed{\frac{1",),
    "sizes": (r"{\Large \boxed{%}}", r"\boxed{\,%\,}", r"\boxed{\displaystyle %}"),
    "bold": (r"**\boxed{%}**", r"$\boldsymbol{\boxed{%}}$"),
    "not used for tuning": (
        r"\boxed{%}\boxed{}",
        r"We get \boxed{%} (not \boxed{31}).",
        r"\begin{align*} x &= \boxed{%} \\ \end{align*}",
        r"Answer: \( \boxed{%} \) \%",
        "\\boxed\n{%}",
    ),
    "text around": (r"\boxed{x = %}",),
    "inside code": ("```latex\n\\boxed{%}\n```", r"`\boxed{%}`"),
    "doubled backslashes": (r"\\boxed{%}",),
    "no box": (r"The answer is $%$.", r"boxed: %"),
    "cut in the only box": (r"so \boxed{\frac{%",),
}


def cases() -> Iterator[Case]:
    """Every template with every formula."""
    for kind, templates in TEMPLATES.items():
        for template in templates:
            for formula in FORMULAS:
                answer = "" if kind in ("no box", "cut in the only box") else formula
                yield Case(kind, template.replace("%", formula), answer, boxed)
