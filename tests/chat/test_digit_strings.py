"""Numbers of seven digits, however a reply writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat.digit_strings import numbers, stated_number

KEY = "7412096"


@pytest.mark.parametrize(
    "reply",
    [KEY, "7,412,096", "7 412 096", "7-412-096", "7 4 1 2 0 9 6", "７４１２０９６", "七四一二零九六", "七四一二〇九六",
     "No.7412096.", "7{,}412{,}096", "It is 7412096, in chapter 12 of 135."],
)  # fmt: skip
def test_every_way_to_write_a_number_gives_the_same_digits(reply: str) -> None:
    assert numbers(reply, 7) == [KEY]
    assert stated_number(reply, 7) == KEY


@pytest.mark.parametrize(
    "reply", ["97412096", "74120961", "741209", "0.7412096", "7412096.55", "七四一二零九六万", "", "none"]
)
def test_another_number_that_contains_the_digits_is_not_it(reply: str) -> None:
    assert numbers(reply, 7) == [] and stated_number(reply, 7) == ""


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("It is not 1234567 but 7412096.", KEY),
        ("号码不是1234567，而是7412096。", KEY),
        ("It is 1234567. Wait, it is 7412096.", KEY),
        ("The mill has 1234567, so the answer is 7412096.", KEY),
        ("1234567 or 7412096", ""),
    ],
)
def test_of_several_numbers_the_one_that_is_stated_counts(reply: str, answer: str) -> None:
    assert stated_number(reply, 7) == answer


def test_all_numbers_come_in_their_order_and_commas_between_them_do_not_join_them() -> None:
    assert numbers("1234567,7412096, 5550123 and 7,000,001", 7) == ["1234567", KEY, "5550123", "7000001"]


@given(st.integers(1, 9), st.data())
def test_a_number_of_any_length_is_read(num_digits: int, data: st.DataObject) -> None:
    value = data.draw(st.integers(10 ** (num_digits - 1), 10**num_digits - 1))
    assert numbers(f"It is {value}.", num_digits) == [str(value)]
    assert numbers(f"It is {value:,}.", num_digits) == [str(value)]
    assert numbers(f"It is {value}1.", num_digits) == []
