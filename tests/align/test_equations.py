import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.equations import equations, is_right


@pytest.mark.parametrize(
    ("solution", "found"),
    [
        ("Natalia sold 48/2 = <<48/2=24>>24 clips in May.\n48+24 = <<48+24=72>>72.\n#### 72", ("48/2=24", "48+24=72")),
        ("48 clips / 2 = 24 clips", ("48/2=24",)),
        (r"\[ 12 \times 3 = \$36 \]", ("12*3=36",)),
        (r"So \(\frac{3}{4} \times 20 = 15\).", ("(3)/(4)*20=15",)),
        ("She pays $12/hour * 3 hours = $36.", ("12*3=36",)),
        ("She has 5 and buys 3 + 2 = 5 more.", ("3+2=5",)),
        ("2 * 3 = 6 = 3 + 3", ("2*3=6", )),
        ("1,200 - 200 = 1,000", ("1200-200=1000",)),
        ("20% x 50 = 10", ("20%*50=10",)),
        ("(4 + 6) / 2 = 5, and again (4 + 6) / 2 = 5", ("(4+6)/2=5",)),
        (r"She sold \( \frac{48}{2} = 24 \) clips, which is = \frac{48}{2} = 24.", ("(48)/(2)=24",)),
        ("In all (3 + 4 = 7) and then (3 + 4) * 2 = 14.", ("3+4=7", "(3+4)*2=14")),
        ("x = 5 and so 5 = 5, 50 / 60 = 50 / 60", ()),
        ("每天 3 × 4 = 12 个，共 12 × 7 = 84 个。", ("3*4=12", "12*7=84")),
        ("", ()),
    ],
)  # fmt: skip
def test_equations_are_read_from_what_people_and_models_write(solution: str, found: tuple[str, ...]) -> None:
    assert equations(solution) == found


@pytest.mark.parametrize(
    "equation",
    ["48/2=24", "100/3=33.33", "100/3=33.3", "2/3=0.67", "20%*50=10", "1/4=25%", "-(3-5)=2", "6=3+3", "(4+6)/2=5"],
)
def test_right_calculations(equation: str) -> None:
    assert is_right(equation)


@pytest.mark.parametrize("equation", ["48/2=25", "7/2=3", "100/3=33.5", "1/0=0", "(3+4=7", "2*3=7"])
def test_wrong_calculations(equation: str) -> None:
    assert not is_right(equation)


@given(st.integers(0, 9999), st.integers(1, 9999), st.sampled_from("+-*"))
def test_what_is_calculated_is_right_and_one_more_is_wrong(a: int, b: int, sign: str) -> None:
    value = {"+": a + b, "-": a - b, "*": a * b}[sign]
    assert is_right(f"{a}{sign}{b}={value}") and not is_right(f"{a}{sign}{b}={value + 1}")
    if value >= 0:
        assert equations(f"Then {a} apples {sign} {b} apples = {value} apples.") == (f"{a}{sign}{b}={value}",)


@given(st.text(alphabet="0123456789+-*/=(). %x$\\{}<>\n", max_size=60))
def test_any_text_is_read_without_an_error(text: str) -> None:
    for equation in equations(text):
        left, equals, right = equation.rpartition("=")
        assert (
            equals and left != right and re.fullmatch(r"[-+*/().%\d]+", left) and re.fullmatch(r"[-+*/().%\d]+", right)
        )
        assert is_right(equation) in (True, False)
