"""Which option a reply without a letter means: the one it names or almost writes, and none otherwise."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat.nearest_option import nearest_option

ORGANS = {"A": "the heart", "B": "the liver", "C": "the left lung", "D": "a kidney"}
SIDES = {"A": "6", "B": "8", "C": "12", "D": "1.5"}
CITIES = {"A": "北京", "B": "上海市", "C": "广州市天河区", "D": "深圳"}
SUBSTANCES = {"A": "酸", "B": "碱", "C": "盐", "D": "氧化物"}


@pytest.mark.parametrize(
    ("reply", "options", "letter"),
    [
        ("That would be a kidny, I think", ORGANS, "D"),
        ("THE LEFT LUMG", ORGANS, "C"),
        ("Well, it is the liver", ORGANS, "B"),
        ("A cube has 6 sides.", SIDES, "A"),
        ("It has 12.", SIDES, "C"),
        ("about 1.5 of them", SIDES, "D"),
        ("2 + 6 = 8", SIDES, "B"),
        ("the heart, or rather the liver", ORGANS, "B"),
        ("广州市天河", CITIES, "C"),
        ("盐", SUBSTANCES, "C"),
        ("氧化物", SUBSTANCES, "D"),
    ],
)
def test_a_named_or_nearly_written_option_is_chosen(reply: str, options: dict[str, str], letter: str) -> None:
    assert nearest_option(reply, options) == letter


@pytest.mark.parametrize(
    ("reply", "options"),
    [
        ("", ORGANS),
        ("   ", ORGANS),
        ("I do not know.", ORGANS),
        ("The question is unclear.", ORGANS),
        ("the", ORGANS),
        ("It has 16 sides, or 61.", SIDES),
        ("1,512", SIDES),
        ("1.55", SIDES),
        ("It began in 1906.", {"A": "1905", "B": "1915", "C": "1925", "D": "1945"}),
        ("我不知道。", CITIES),
        ("题目不清楚，无法回答。", SUBSTANCES),
        ("x", {"A": "", "B": " ", "C": "yes", "D": "no"}),
    ],
)
def test_what_names_none_chooses_nothing(reply: str, options: dict[str, str]) -> None:
    assert nearest_option(reply, options) == ""


def test_options_with_the_same_text_are_not_told_apart() -> None:
    assert nearest_option("a kidny", {"A": "a kidney", "B": "a kidney", "C": "x", "D": "y"}) == ""


TEXTS = st.text(alphabet="ab 1.,(中", max_size=12)


@given(TEXTS, st.lists(TEXTS, min_size=4, max_size=4))
def test_the_result_is_an_option_or_nothing(reply: str, texts: list[str]) -> None:
    assert nearest_option(reply, dict(zip("ABCD", texts, strict=True))) in {"", *"ABCD"}


def test_a_long_reply_costs_little() -> None:
    reply = "the lever of the hart pumps a kindness into the lift long " * 400
    begin = time.process_time()
    nearest_option(reply, {letter: text * 20 for letter, text in ORGANS.items()})
    assert time.process_time() - begin < 5
