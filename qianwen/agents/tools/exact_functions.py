"""The functions of the calculator, and its numbers: a fraction, which is exact, or a floating-point number.

A fraction has at most MAX_BITS bits above and below its line. Each function that can make a much longer number from
short ones estimates the length first and raises ToolError.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from qianwen.runtime.errors import ToolError
from qianwen.runtime.translation import tr

Number = Fraction | float
MAX_BITS = 14_000  # about 4,200 digits; Python writes no longer numbers
MAX_MODULUS_BITS = 2048  # of the exponent and the modulus of a power with a remainder
MAX_DECIMALS = 60  # digits after the point of a decimal that is shown exactly
MAX_FRACTION = 120  # characters of a fraction that is shown as one
SMALL_ROOT = 64  # roots up to this one are tried exactly
CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}


def narrow(value: Any) -> Number:
    """A result as a number of this calculator; ToolError if it is too long or not a real number."""
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ToolError(tr("the result is too large"))
        return value
    if isinstance(value, complex):
        raise ToolError(tr("the result is not a real number"))
    number = Fraction(value)
    if max(number.numerator.bit_length(), number.denominator.bit_length()) > MAX_BITS:
        raise ToolError(tr("the result is too large"))
    return number


def show(number: Number) -> str:
    """A number as text: all digits of what is exact, 15 of what is not, both for a fraction."""
    if isinstance(number, float):
        return f"{number:.15g}"
    above, below = number.numerator, number.denominator
    if below == 1:
        return str(above)
    rest, twos, fives = below, 0, 0
    while rest % 2 == 0:
        rest, twos = rest // 2, twos + 1
    while rest % 5 == 0:
        rest, fives = rest // 5, fives + 1
    places = max(twos, fives)
    if rest == 1 and places <= MAX_DECIMALS:
        digits = str(abs(above) * 10**places // below).zfill(places + 1)
        return f"{'-' if above < 0 else ''}{digits[:-places]}.{digits[-places:]}"
    rough = f"{float(number):.15g}"
    exact = f"{above}/{below}"
    return f"{exact} ≈ {rough}" if len(exact) <= MAX_FRACTION else f"≈ {rough}"


def power(base: Number, exponent: Number) -> Number:
    """`base` to the power of `exponent`, exact where both are and the root is."""
    if isinstance(base, float) or isinstance(exponent, float):
        return _float_power(float(base), float(exponent))
    if exponent.denominator == 1:
        longest = max(base.numerator.bit_length(), base.denominator.bit_length())
        if abs(base) not in (0, 1) and (longest - 1) * abs(exponent.numerator) > MAX_BITS:
            raise ToolError(tr("the result is too large"))
        return base ** (exponent.numerator if abs(base) not in (0, 1) else _small(exponent.numerator))
    if exponent.denominator <= SMALL_ROOT and (root := _exact_root(base, exponent.denominator)) is not None:
        return power(root, Fraction(exponent.numerator))
    return _float_power(float(base), float(exponent))


def _small(exponent: int) -> int:
    """An exponent of 0, 1 or -1 with the same result: its sign and whether it is odd count."""
    return 0 if exponent == 0 else (2 - exponent % 2) * (1 if exponent > 0 else -1)


def _float_power(base: float, exponent: float) -> float:
    if base < 0 and not exponent.is_integer():
        raise ToolError(tr("the result is not a real number"))
    return base**exponent


def _exact_root(number: Fraction, degree: int) -> Fraction | None:
    """The root if it is a fraction."""
    if number < 0:
        if degree % 2 == 0:
            raise ToolError(tr("the result is not a real number"))
        root = _exact_root(-number, degree)
        return None if root is None else -root
    above, below = _whole_root(number.numerator, degree), _whole_root(number.denominator, degree)
    return Fraction(above, below) if above**degree == number.numerator and below**degree == number.denominator else None


def _whole_root(number: int, degree: int) -> int:
    """The largest whole number whose power is at most `number`, by Newton's method from above."""
    if number < 2:
        return number
    guess = 1 << -(-number.bit_length() // degree)
    while True:
        better = ((degree - 1) * guess + number // guess ** (degree - 1)) // degree
        if better >= guess:
            return guess
        guess = better


def _root(degree: int) -> Callable[[Number], Number]:
    def root(number: Number) -> Number:
        if isinstance(number, Fraction) and (exact := _exact_root(number, degree)) is not None:
            return exact
        return math.sqrt(number) if degree == 2 else math.cbrt(number)

    return root


def _whole(*numbers: Number) -> list[int]:
    if not all(isinstance(number, Fraction) and number.denominator == 1 for number in numbers):
        raise ToolError(tr("whole numbers are needed"))
    return [int(number) for number in numbers]


def _factorial(number: Number) -> int:
    (count,) = _whole(number)
    if count > 1 and math.lgamma(count + 1) > MAX_BITS * math.log(2):
        raise ToolError(tr("the result is too large"))
    return math.factorial(count)


def _comb(total: Number, chosen: Number) -> int:
    count, size = _whole(total, chosen)
    smaller = min(size, count - size)
    # At least (count / smaller) ** smaller, and at most count ** smaller.
    if smaller > 0 and smaller * (math.log2(count) - math.log2(smaller)) > MAX_BITS:
        raise ToolError(tr("the result is too large"))
    return math.comb(count, size)


def _perm(total: Number, chosen: Number) -> int:
    count, size = _whole(total, chosen)
    # At least (count / e) ** size.
    if 1 < size <= count and size * math.log2(count / math.e) > MAX_BITS:
        raise ToolError(tr("the result is too large"))
    return 0 if size > count >= 0 else math.perm(count, size)


def _pow(base: Number, exponent: Number, modulus: Number | None = None) -> Number:
    """A power, or its remainder, which has no long numbers in between."""
    if modulus is None:
        return power(base, exponent)
    numbers = _whole(base, exponent, modulus)
    if max(number.bit_length() for number in numbers[1:]) > MAX_MODULUS_BITS:
        raise ToolError(tr("the result is too large"))
    return Fraction(pow(*numbers))


def _log(number: Number, base: Number = math.e) -> Number:
    """The logarithm; exact for a whole power of a whole base. `math.log` reads whole numbers of any length."""
    if isinstance(number, float) or isinstance(base, float):
        return _ln(number) if base == math.e else _ln(number) / _ln(base)
    if base <= 0 or base == 1 or number <= 0:
        raise ValueError
    rough = _ln(number) / _ln(base)
    nearest = Fraction(round(rough))
    return nearest if abs(nearest) <= MAX_BITS and power(base, nearest) == number else rough


def _ln(number: Number) -> float:
    if isinstance(number, Fraction):
        return math.log(number.numerator) - math.log(number.denominator)
    return math.log(number)


def _round(number: Number, digits: Number = Fraction(0)) -> Fraction:
    """Halves are rounded away from zero, as in school."""
    (places,) = _whole(digits)
    if abs(places) > MAX_DECIMALS:
        raise ToolError(tr("round takes at most {count} digits", count=MAX_DECIMALS))
    scale = Fraction(10) ** places
    rounded = math.floor(abs(Fraction(number)) * scale + Fraction(1, 2)) / scale
    return -rounded if number < 0 else rounded


def _lcm(*numbers: Number) -> Number:
    return functools.reduce(lambda a, b: narrow(math.lcm(*_whole(a, b))), numbers, Fraction(1))


def _sum(*numbers: Number) -> Number:
    return functools.reduce(lambda a, b: narrow(a + b), numbers, Fraction(0))


FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{function.__name__: function for function in (math.exp, math.hypot, math.degrees, math.radians)},
    **{function.__name__: function for function in (math.sin, math.cos, math.tan, math.sinh, math.cosh, math.tanh)},
    **{function.__name__: function for function in (math.asin, math.acos, math.atan, math.atan2)},
    **{function.__name__: function for function in (math.floor, math.ceil, math.trunc)},
    "abs": abs,
    "round": _round,
    "min": lambda *numbers: min(numbers),
    "max": lambda *numbers: max(numbers),
    "sum": _sum,
    "mean": lambda *numbers: _sum(*numbers) / len(numbers),
    "sqrt": _root(2),
    "cbrt": _root(3),
    "pow": _pow,
    "log": _log,
    "ln": lambda number: _log(number),
    "log2": lambda number: _log(number, Fraction(2)),
    "log10": lambda number: _log(number, Fraction(10)),
    "gcd": lambda *numbers: math.gcd(*_whole(*numbers)),
    "lcm": _lcm,
    "comb": _comb,
    "perm": _perm,
    "factorial": _factorial,
}
