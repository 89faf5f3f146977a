import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.eval.tasks.latex_equality import is_same_formula

EQUAL = [
    (r"\frac12", "1/2"),
    (r"\dfrac{1}{2}", "0.5"),
    (r"\tfrac{3}{4}", ".75"),
    ("0.25", r"\frac{1}{4}"),
    (r"18\text{ cm}", "18"),
    (r"18 \text{ cm}^2", "18"),
    ("18 dollars", "18"),
    (r"\$18", "18"),
    (r"25\%", "25"),
    ("25%", r"25\%"),
    (r"90^\circ", "90"),
    (r"90^{\circ}", "90"),
    ("1,234", "1234"),
    ("1{,}234", "1234"),
    (r"\text{yes}", "yes"),
    (r"\text{(A)}", "(A)"),
    (r"\mathrm{A}", "A"),
    ("x=5", "5"),
    ("x = 5", "5"),
    (r"\left(3, 4\right)", "(3,4)"),
    (r"(\frac12, 3)", "(0.5,3)"),
    (r"\sqrt2", r"\sqrt{2}"),
    (r"2\sqrt3", r"2\sqrt{3}"),
    (r"\frac{\sqrt3}{2}", r"\frac{\sqrt{3}}{2}"),
    (r"3\frac{1}{2}", r"\frac{7}{2}"),
    ("-1/2", r"-\frac{1}{2}"),
    (r"\frac{-1}{2}", "-1/2"),
    ("5.0", "5"),
    ("5.", "5"),
    (r"\!5", "5"),
    ("[0,1)", r"\left[0, 1\right)"),
    (r"\{1,2\}", r"\left\{1, 2\right\}"),
    ("2, 3", "2,3"),
    (r"10\text{ units}", "10"),
    (r"\frac{a}{b}", r"\frac ab"),
    (r"x \le 3", r"x\leq 3"),
    ("−3", "-3"),
    ("7 inches", "7"),
    ("12 cm^3", "12"),
    (r"\$5.50", "5.5"),
    ("x^2+1", "x^2 + 1"),
    (r"\frac{10}{20}", "1/2"),
    (r"\rightarrow", r"\rightarrow"),
    (r"\frac{3}{4} \text{ of a mile}", "3/4"),
]
DIFFERENT = [
    ("1", "2"),
    (r"\frac12", r"\frac13"),
    ("(3,4)", "(4,3)"),
    ("(3,4)", "[3,4]"),
    ("1,2", "12"),
    ("1,234", "1.234"),
    ("x", "y"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("-3", "3"),
    ("0.33", r"\frac13"),
    (r"\text{yes}", "no"),
    ("12", "1{,}2"),
    ("(1,2)", "(1,2,3)"),
    ("[0,1)", "[0,1]"),
    ("2x", "2"),
    ("10^2", "102"),
    ("5", "50"),
    ("", "0"),
    (r"\pi", "3.14"),
    (r"3\frac12", "3/2"),
    ("A", "B"),
    (r"\frac{1}{0}", "0"),
    ("a=b=c", "c"),
    (r"\leftarrow", "arrow"),
]


@pytest.mark.parametrize(("left", "right"), EQUAL)
def test_the_same_answer_in_two_forms(left: str, right: str) -> None:
    assert is_same_formula(left, right) and is_same_formula(right, left)


@pytest.mark.parametrize(("left", "right"), DIFFERENT)
def test_different_answers(left: str, right: str) -> None:
    assert not is_same_formula(left, right) and not is_same_formula(right, left)


@given(st.text(alphabet="0123456789.,-/()[]{}\\ =x%$fracsqtbo", max_size=40))
def test_every_text_is_the_same_as_itself(text: str) -> None:
    assert is_same_formula(text, text) and is_same_formula(text, f" {text} ")


def test_numbers_too_long_to_read_are_compared_as_text() -> None:
    assert is_same_formula("9" * 5000, "9" * 5000) and not is_same_formula("9" * 5000, "8" * 5000)
