"""The calculator: exact results, what people write, and expressions that ask for too much."""

import json
import math
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.agents.tool import CallContext
from qianwen.agents.tools.calculator import calculate, calculator
from qianwen.runtime.errors import ToolError

EXACT = {
    "12345678987654321 * 98765432123456789": str(12345678987654321 * 98765432123456789),
    "2**1000": str(2**1000),
    "0.1 + 0.2": "0.3",
    "1.10 - 1": "0.1",
    "-0.05 * 3": "-0.15",
    "1e3": "1000",
    "1.5e-3 + .5": "0.5015",
    "1/3": "1/3 ≈ 0.333333333333333",
    "1/3 + 1/6": "0.5",
    "7 // 2 + 7 % 4": "6",
    "-7 // 2": "-4",
    "7 % -3": "-2",
    "2 ** -2": "0.25",
    "-2 ** 2": "-4",
    "(-8) ** (1/3)": "-2",
    "(4/9) ** 1.5": "8/27 ≈ 0.296296296296296",
    "sqrt(144) + cbrt(27)": "15",
    "sqrt(10**200)": str(10**100),
    "sqrt(2)": "1.4142135623731",
    "sqrt(2)**2": "2",
    "log(8, 2) + log2(1/4) + log10(1000)": "4",
    "ln(e)": "1",
    "exp(0) + cos(0)": "2",
    "sin(pi/6)": "0.5",
    "degrees(pi)": "180",
    "factorial(25)": str(math.factorial(25)),
    "comb(52, 5) + perm(5, 2) + comb(3, 9)": str(math.comb(52, 5) + 20),
    "gcd(12, 18, 27) + lcm(4, 6, 10)": "63",
    "pow(3, 10**200, 1000007)": str(pow(3, 10**200, 1000007)),
    "pow(2, 10)": "1024",
    "round(2.5) + round(-2.5)": "0",
    "round(3.14159, 2)": "3.14",
    "round(1234, -2)": "1200",
    "floor(-1.5) + ceil(1.2) + trunc(1.9) + abs(-3)": "4",
    "max(1, 2.5) + min([3, 4]) + sum(1, 2, 3) + mean(1, 2)": "13",
    "1**(10**1000) + 0**0": "2",
    "(-1)**(10**1000 + 1)": "-1",
    "((((1))))": "1",
}
WRITTEN = {
    "３＋４×２": "11",
    "（１２．５－２）÷３": "3.5",
    "2^10": "1024",
    "−5 · 3": "-15",
    "π × 0": "0",
    "√16 + √(9)": "7",
    "1,234,567 + 1": "1234568",
    "max(1,234)": "234",
    "15% * 200": "30",
    "200 × (1 + 5%)": "210",
    "50%": "0.5",
    "10 % 3": "1",
    "2 + 2 =": "4",
    "1 +\n 2": "3",
    "1_000 * 2": "2000",
}


@pytest.mark.parametrize(("expression", "expected"), EXACT.items())
def test_results_are_exact(expression: str, expected: str):
    assert calculate(expression) == expected


@pytest.mark.parametrize(("expression", "expected"), WRITTEN.items())
def test_signs_are_read_as_people_write_them(expression: str, expected: str):
    assert calculate(expression) == expected


TOO_MUCH = [
    "9**9**9",
    "9**9**9**9",
    "2**(2**100)",
    "2**-(10**9)",
    "(1/3)**(10**9)",
    "factorial(10**9)",
    "factorial(1e30)",
    "factorial(factorial(20))",
    "comb(10**9, 5*10**8)",
    "comb(10**1000, 10**3)",
    "perm(10**9, 10**8)",
    "10**4000 * 10**4000",
    "1e999999999",
    "1e-999999999",
    "pow(3, 2**9999, 2**9999)",
    "exp(10**6)",
    "1e300 * 1e300 * pi",
    "lcm(" + ",".join(f"{n}**900" for n in range(2, 90)) + ")",
    "*".join(["(2**9000)"] * 300),
    "(" * 3000 + "1" + ")" * 3000,
    "-" * 3999 + "1",
    "1" + "+1" * 1999,
    "9" * 5000,
    "1" * 4999,
    "x" * 10**6,
    "round(1, 10**9)",
    "round(pi, 10**30)",
]


@pytest.mark.parametrize("expression", TOO_MUCH, ids=lambda text: text[:20])
def test_what_asks_for_too_much_ends_at_once(expression: str):
    start = time.perf_counter()
    with pytest.raises(ToolError):
        calculate(expression)
    assert time.perf_counter() - start < 1.5


def test_long_sums_of_long_fractions_end_within_the_time_of_one_call():
    expression = "+".join(f"1/(2**{13000 - n}+1)" for n in range(150))
    start = time.perf_counter()
    with pytest.raises(ToolError):
        calculate(expression)
    assert time.perf_counter() - start < 1.5


WRONG = {
    "": "not an arithmetic",
    "1 +": "not an arithmetic",
    "1 2": "not an arithmetic",
    "import os": "not an arithmetic",
    "x + 1": "cannot be computed",
    "'a' * 3": "not a number",
    "True + 1": "not a number",
    "3j": "not a number",
    "[1, 2]": "cannot be computed",
    "1, 5": "cannot be computed",
    "1 if 2 else 3": "cannot be computed",
    "__import__('os').system('id')": "cannot be computed",
    "().__class__.__bases__[0].__subclasses__()": "cannot be computed",
    "eval('1')": "no function",
    "open('/etc/passwd')": "no function",
    "sqrt": "cannot be computed",
    "sqrt(x=1)": "cannot be computed",
    "max(*[1,2])": "cannot be computed",
    "1 << 9": "cannot be computed",
    "~1": "cannot be computed",
    "lambda: 1": "cannot be computed",
    "[x for x in (1,2)]": "cannot be computed",
    "1 / 0": "division by zero",
    "5 % 0": "division by zero",
    "0 ** -1": "division by zero",
    "sqrt(-1)": "not a real number",
    "(-2) ** 0.5": "not a real number",
    "(-2) ** pi": "not a real number",
    "log(0)": "not defined",
    "log(5, 1)": "not defined",
    "asin(2)": "not defined",
    "factorial(-1)": "not defined",
    "factorial(1.5)": "whole numbers",
    "gcd(1.5, 2)": "whole numbers",
    "min()": "not defined",
    "sqrt(1, 2)": "number of arguments",
    "sqrt()": "number of arguments",
    "一加一": "not a sign",
    "2 🙂 2": "not a sign",
    "1\0": "not an arithmetic",
    "1;2": "not an arithmetic",
    "f'{1}'": "not a number|cannot be computed",
}


@pytest.mark.parametrize(("expression", "reason"), WRONG.items())
def test_what_is_wrong_is_named_for_the_model(expression: str, reason: str):
    with pytest.raises(ToolError, match=reason):
        calculate(expression)


NUMBERS = st.fractions(max_denominator=10**6).map(lambda value: value.limit_denominator(10**6))


@settings(max_examples=60, deadline=None)
@given(NUMBERS, NUMBERS, st.sampled_from("+-*/"))
def test_rational_arithmetic_is_that_of_fractions(left: Fraction, right: Fraction, sign: str):
    expected = {"+": left + right, "-": left - right, "*": left * right, "/": left / right if right else None}[sign]
    expression = f"({left.numerator}/{left.denominator}) {sign} ({right.numerator}/{right.denominator})"
    if expected is None:
        with pytest.raises(ToolError, match="zero"):
            calculate(expression)
    else:
        assert Fraction(calculate(expression).partition(" ≈ ")[0]) == expected


@settings(max_examples=60, deadline=None)
@given(st.text(alphabet="x🙂一\0{", max_size=5) | st.text(alphabet="0123456789+-*/%().,e^√√ sqrtlog", max_size=40))
def test_any_text_gives_a_number_or_a_reason(text: str):
    try:
        assert calculate(text)
    except ToolError as error:
        assert str(error)


def test_the_tool_only_computes():
    (tool,) = calculator()
    assert (tool.name, tool.effect, tool.is_trusted) == ("calculator", "none", True)
    json.dumps(tool.spec.to_openai())
    assert tool.run({"expression": "6*7"}, CallContext("k", Path("."), 1.0)).text == "42"
