"""A calculator for models: one expression, computed exactly where that is possible.

Whole numbers, fractions and decimals are exact: 0.1 + 0.2 is 0.3, and 1/3 stays a fraction. Roots, logarithms and
angles are floating-point numbers with 15 digits, unless they are exact too. × ÷ ^ √ π, full-width characters,
percentages and thousands separators are read as people write them.

The expression is parsed by Python's `ast`, and only the listed operators and functions are computed. Every number has
at most MAX_BITS bits. Where short numbers could make a much longer one (powers, factorials, binomials), its length is
estimated first. So an expression takes milliseconds, whatever it asks for.
"""

from __future__ import annotations

import ast
import operator
import re
import time
import unicodedata
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

from qianwen.agents.tool import Tool
from qianwen.agents.tools.exact_functions import CONSTANTS, FUNCTIONS, Number, narrow, power, show
from qianwen.agents.tools.functions import function_tool
from qianwen.runtime.errors import ToolError, excerpt
from qianwen.runtime.translation import tr

MAX_CHARACTERS, MAX_NODES, MAX_EXPONENT, MAX_SECONDS = 4000, 1000, 4000, 1.0

_BINARY: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: power,
}
_SIGNS = {"×": "*", "✕": "*", "·": "*", "∙": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "π": "pi", "√": "sqrt"}
_GROUPED = re.compile(r"(?<![\w.])\d{1,3}(?:,\d{3})+(?![\d,])")
# "15%" is a percentage where no other number can follow it: 7 % -3 is a remainder.
_PERCENT = re.compile(r"((?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?|\))\s*%(?=\s*(?:$|[),*/\]]))", re.IGNORECASE)
_ROOT = re.compile(r"sqrt\s*(\d+\.?\d*|pi|e\b)")


def calculator() -> Sequence[Tool]:
    """The tool, in a tuple."""
    return (function_tool(calculate, effect="none", is_trusted=True, name="calculator"),)


def calculate(expression: str) -> str:
    """Compute an arithmetic expression exactly, such as 12345*6789, (1/3+1/6)**2, sqrt(2)/2, comb(52,5) or 2**100 % 97.

    Operators: + - * / // % **. Functions: sqrt, cbrt, exp, log(x, base), ln, log2, log10, sin, cos, tan, asin, acos,
    atan, degrees, radians, abs, round(x, digits), floor, ceil, min, max, sum, mean, gcd, lcm, comb, perm, factorial,
    pow(base, exponent, modulus). Angles are in radians. Constants: pi, e.

    Args:
        expression: only numbers, operators and these functions
    """
    source = plain(expression)
    try:
        tree = ast.parse(source, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise ToolError(tr("{expression} is not an arithmetic expression", expression=excerpt(expression))) from None
    if sum(1 for _ in ast.walk(tree)) > MAX_NODES:
        raise ToolError(tr("the expression is too long: compute its parts one by one"))
    try:
        return show(narrow(_Evaluator(source).number(tree.body)))
    except ZeroDivisionError:
        raise ToolError(tr("division by zero in {expression}", expression=excerpt(expression))) from None
    except (OverflowError, RecursionError):
        raise ToolError(tr("the result is too large")) from None


def plain(expression: str) -> str:
    """The expression in the characters of Python."""
    text = "".join(_SIGNS.get(character, character) for character in unicodedata.normalize("NFKC", expression))
    text = " ".join(text.split()).removesuffix("=").strip()
    if len(text) > MAX_CHARACTERS:
        raise ToolError(tr("the expression is too long: compute its parts one by one"))
    if not text.isascii():
        strange = next(character for character in text if not character.isascii())
        raise ToolError(tr("{character} is not a sign of arithmetic", character=excerpt(strange)))
    text = _ROOT.sub(r"sqrt(\1)", text)
    if not re.search(r"[a-z]\w*\s*\(|\[", text, re.IGNORECASE):  # in a function, a comma is between two arguments
        text = _GROUPED.sub(lambda match: match[0].replace(",", ""), text)
    return _PERCENT.sub(r"\1*(1/100)", text) if "%" in text else text


class _Evaluator:
    """Computes the parts of one expression."""

    def __init__(self, source: str) -> None:
        self._source = source
        self._end = time.monotonic() + MAX_SECONDS

    def number(self, node: ast.AST) -> Number:
        if time.monotonic() > self._end:
            raise ToolError(tr("the expression takes too long: compute its parts one by one"))
        match node:
            case ast.Constant():
                return self._literal(node)
            case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
                return -self.number(operand) if isinstance(sign, ast.USub) else self.number(operand)
            case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _BINARY:
                return narrow(_BINARY[type(sign)](self.number(left), self.number(right)))
            case ast.Name(id=name) if name in CONSTANTS:
                return CONSTANTS[name]
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments)
        part = excerpt(ast.get_source_segment(self._source, node) or self._source)
        message = "{part} cannot be computed; use numbers, + - * / // % ** and the functions {names}"
        raise ToolError(tr(message, part=part, names=", ".join(sorted(FUNCTIONS))))

    def _literal(self, node: ast.Constant) -> Number:
        """A number exactly as it is written: 0.1 is a tenth."""
        text = (ast.get_source_segment(self._source, node) or "").replace("_", "")
        if type(node.value) is int:
            return narrow(Fraction(node.value))
        exponent = text.lower().partition("e")[2]
        if type(node.value) is not float or (exponent and abs(int(exponent)) > MAX_EXPONENT):
            raise ToolError(tr("{text} is not a number, or too large", text=excerpt(text)))
        return narrow(Fraction(text))

    def _call(self, name: str, arguments: Sequence[ast.expr]) -> Number:
        if name not in FUNCTIONS:
            message = "there is no function {name}; there are {names}"
            raise ToolError(tr(message, name=excerpt(name), names=", ".join(sorted(FUNCTIONS))))
        items = [
            item for node in arguments for item in (node.elts if isinstance(node, ast.List | ast.Tuple) else [node])
        ]
        try:
            return narrow(FUNCTIONS[name](*(self.number(item) for item in items)))
        except TypeError:
            raise ToolError(tr("{name} takes another number of arguments", name=name)) from None
        except ValueError as error:
            if isinstance(error, ToolError):
                raise
            values = ast.get_source_segment(self._source, arguments[0]) if arguments else ""
            raise ToolError(tr("{name} is not defined for {value}", name=name, value=excerpt(values))) from None
