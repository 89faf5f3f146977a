r"""The equations of a solution. Two solutions of a problem with the same equations count as one.

The format of GSM8K is read (`<<48/2=24>>`), and what models write: "48 clips / 2 = 24 clips", "$12 \times 3 = \$36",
chains "2 * 3 = 6 = 3 + 3". An equation is stored without words and units, as "48/2=24". The list of a solution's
equations in their order is its signature (Yuan et al., 2023, section 3.3). An equation is wrong if its sides differ by
more than the rounding of the right side to its written digits.
"""

import ast
import operator
import re
from collections.abc import Callable
from fractions import Fraction

CALCULATOR = re.compile(r"<<([^<>]*)>>")
NUMBER = r"\d+(?:\.\d+)?%?"
TERM = rf"[-(]*{NUMBER}[)]*"
EXPRESSION = rf"{TERM}(?:[-+*/]{TERM})*"
EQUATION = re.compile(rf"(?<![\d.%()+*/-]){EXPRESSION}(?:={EXPRESSION})+")
FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
NAMED = re.compile(r"\\(?:text|mathrm|mbox)\{[^{}]*\}")
SIGNS = {
    r"\times": "*", r"\cdot": "*", "×": "*", "·": "*", r"\div": "/", "÷": "/", "−": "-", "–": "-", r"\%": "%", "≈": "=",
    r"\approx": "=", r"\left": "", r"\right": "", r"\$": "", "$": "",
    r"\(": "\n", r"\)": "\n", r"\[": "\n", r"\]": "\n",
}  # fmt: skip
OPERATIONS: dict[type[ast.operator], Callable[[Fraction, Fraction], Fraction]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
}  # fmt: skip


def equations(solution: str) -> tuple[str, ...]:
    """The equations of `solution` in their order, without those that calculate nothing, such as "6 = 6" or "x = 6"."""
    in_order: list[str] = []
    for line in _plain(solution).split("\n"):
        for match in EQUATION.finditer(line):
            sides = [_balanced(side) for side in match[0].split("=")]
            pairs = zip(sides, sides[1:], strict=False)
            chain = [f"{left}={right}" for left, right in pairs if _calculates(left) and left != right]
            # an equation that is repeated directly counts once
            in_order += [equation for equation in chain if not in_order or in_order[-1] != equation]
    return tuple(in_order)


def is_right(equation: str) -> bool:
    """Whether both sides are equal, up to rounding if the right side is a number with decimals."""
    left, right = equation.split("=")
    computed, written = _value(left), _value(right)
    if computed is None or written is None:
        return False
    decimals = right.rstrip("%").partition(".")[2] if re.fullmatch(rf"-?{NUMBER}", right) else ""
    unit = Fraction(1, 10 ** len(decimals)) if decimals else Fraction(0)
    readings = [written] if not right.endswith("%") else [written, 100 * written]  # "20 / 100 * 100 = 20%" means 20
    return any(abs(computed - reading) <= unit for reading in readings)


def _plain(text: str) -> str:
    """The text with one spelling for each sign, without units, and with spaces only between two numbers."""
    if annotated := CALCULATOR.findall(text):  # GSM8K has each calculation in words too
        text = "\n".join(annotated)
    text = NAMED.sub(" ", text)
    text = FRACTION.sub(r"(\1)/(\2)", text)
    for sign, plain in SIGNS.items():
        text = text.replace(sign, plain)
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    text = re.sub(r"(?<=[\d)%]) *[xX] *(?=[\d(])", "*", text)
    text = re.sub(r"/ ?(?=[^\W\d_])", " ", text)  # dollars/hour is a unit
    text = re.sub(r"[^\W\d_]+(?:['’-][^\W\d_]+)*|[*]{2,}|[_#]", " ", text)
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r" ?([-+*/=]) ?", r"\1", text)
    return re.sub(r"(?<=\() | (?=\))", "", text)


def _balanced(side: str) -> str:
    """The side without brackets that belong to the text around it, as in "(3 + 4 = 7)"."""
    while side.startswith("(") and side.count("(") > side.count(")"):
        side = side[1:]
    while side.endswith(")") and side.count(")") > side.count("("):
        side = side[:-1]
    return side


def _calculates(side: str) -> bool:
    return re.search(r"(?<=[\d)%])[-+*/]", side) is not None


def _value(expression: str) -> Fraction | None:
    """The value of an expression of numbers, + − * / and brackets; None if it is invalid or divides by zero."""
    text = re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", expression)
    if re.search(r"\d{40}", text):
        return None
    try:
        return _evaluated(ast.parse(re.sub(r"(?<![\d.])0+(?=\d)", "", text), mode="eval").body)
    except (SyntaxError, ValueError, KeyError, ZeroDivisionError, RecursionError):
        return None


def _evaluated(node: ast.expr) -> Fraction:
    if isinstance(node, ast.BinOp):
        return OPERATIONS[type(node.op)](_evaluated(node.left), _evaluated(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_evaluated(node.operand)
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return Fraction(str(node.value))
    raise ValueError(ast.dump(node))
