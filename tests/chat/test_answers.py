import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat.answers import (
    boxed,
    choice,
    final_number,
    is_right_number,
    is_same_number,
    last_number,
    reference_number,
)

OPTIONS = {"A": "the heart", "B": "the liver", "C": "the left lung", "D": "a kidney"}
CHINESE = {"A": "北京", "B": "上海", "C": "广州", "D": "深圳"}


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("She has 3 + 4 = 7 apples.", "7"),
        ("It costs $1,234.50 in all.", "1234.50"),
        ("so the balance is -5", "-5"),
        ("减去后是 −12 元。", "-12"),
        ("from 3-5 it takes", "5"),
        ("version 1.2.3", "1.2"),
        ("none at all", ""),
    ],
)
def test_the_last_number_in_common_notations(text: str, number: str) -> None:
    assert last_number(text) == number


@given(st.integers(-(10**9), 10**9), st.text(alphabet="abc xyz.!?$", max_size=20))
def test_a_number_at_the_end_with_or_without_separators(value: int, before: str) -> None:
    assert float(last_number(f"{before} {value:,}")) == value == float(last_number(f"{before} {value}"))


def test_boxed_keeps_inner_braces_and_takes_the_last_box() -> None:
    assert boxed(r"\boxed{3} or rather \boxed{\frac{1}{\sqrt{2}}}.") == r"\frac{1}{\sqrt{2}}"
    assert boxed(r"cut short: \boxed{12") == "" and boxed("none") == ""


def test_a_box_has_priority_over_a_later_number() -> None:
    assert final_number(r"Thus \boxed{18} dollars, made in 2 days.") == "18"
    assert final_number("Thus 18 dollars.") == "18"


def test_a_reference_is_gsm8k_or_a_plain_number() -> None:
    assert reference_number("She earned 0.2 x 50 = $<<0.2*50=10>>10.\n#### 10") == "10"
    assert reference_number("42") == "42"


def test_numbers_are_equal_within_the_tolerance_and_empty_answers_are_wrong() -> None:
    assert is_same_number("0.33333", "0.3333333") and not is_same_number("0.333", "0.3334")
    assert is_right_number("The answer is 1,000.", "#### 1000")
    assert not is_right_number("I cannot tell.", "#### 0") and not is_same_number("", "")


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is (B).", "B"),
        ("answer: **C**", "C"),
        ("D", "D"),
        ("C. the left lung", "C"),
        ("After some thought, B is correct, because A pumps blood.", "B"),
        ("It must be the liver, which filters blood.", "B"),
        ("A good question. The correct answer is D.", "D"),
        ("That would be a kidny, I think", "D"),
    ],
)
def test_choices_in_english(reply: str, letter: str) -> None:
    assert choice(reply, OPTIONS) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("答案是B", "B"),
        ("正确答案应该选：C。", "C"),
        ("我认为 D 选项是正确的，而 A 不是首都。", "D"),
        ("上海", "B"),
        ("A", "A"),
        ("中国的首都是北京。", "A"),
    ],
)
def test_choices_in_chinese(reply: str, letter: str) -> None:
    assert choice(reply, CHINESE, question="中国的首都是") == letter


@given(st.text(alphabet="0123456789.,-^/{}\\\n =abc答案是十boxedfrac#", max_size=60))
def test_no_reply_is_an_error(reply: str) -> None:
    number = final_number(reply)
    assert number == "" or is_same_number(number, number)
    assert boxed(reply) == "" or boxed(reply) in reply


@given(st.text(max_size=60))
def test_a_choice_is_one_of_the_options_or_nothing(reply: str) -> None:
    assert choice(reply, OPTIONS) in {*OPTIONS, ""}


@pytest.mark.parametrize("reply", ["", "I do not know.", "题目不清楚，无法回答。", "42"])
def test_a_reply_without_a_choice_chooses_nothing(reply: str) -> None:
    assert choice(reply, OPTIONS) == ""


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("The answer is 18 dollars for 3 days.", "18"),
        ("#### 12\nfor 3 people", "12"),
        ("The answer is not 20 but 18.", "18"),
        ("The answer is 18, not 20.", "18"),
        ("答案是十八个，用了3天。", "18"),
        ("答案是３万元。", "30000"),
        ("The answer is 18. Wait, I forgot 2: 18 + 2 = 20.", "20"),
        ("The third answer was 9 - 4 = 5. Altogether 5 + 6 = 11.", "11"),
        ("The answer is that each of the 3 kids gets 5.", "5"),
        ("**Answer:** 1,200 m^2", "1200"),
        (r"Answer: $\frac{3}{4}$ of 8", "0.75"),
        (r"\boxed{1{,}234} in 2 years", "1234"),
        ("The area is 24 m^2.", "24"),
        ("共３，４５６元", "3456"),
    ],
)
def test_a_stated_answer_has_priority_over_a_later_number(reply: str, number: str) -> None:
    assert final_number(reply) == number


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is not A but C.", "C"),
        ("A and B are incorrect, so it must be D.", "D"),
        ("It can't be option A, so B.", "B"),
        ("the answer is a kind of gland, so (c)", "C"),
        (r"$\boxed{\text{D}}$, not A", "D"),
        ("The answer is A. Wait, that is wrong: the answer is C.", "C"),
        ("A. the heart\nB. the liver\nC. the left lung\nD. a kidney\n\nC", "C"),
        ("Ｂ", "B"),
        ("排除A和B，选择D。", "D"),
        ("答案不是A，而是C。", "C"),
    ],
)
def test_rejected_letters_and_articles_are_not_choices(reply: str, letter: str) -> None:
    assert choice(reply, OPTIONS) == letter


def test_an_option_of_one_chinese_character_is_a_text() -> None:
    assert choice("应该是碱。", dict(zip("ABCD", ("酸", "碱", "盐", "氧化物"), strict=True))) == "B"


def test_an_option_is_not_found_inside_a_longer_number() -> None:
    options = {"A": "10", "B": "100", "C": "1000", "D": "0.10"}
    assert [choice(f"It is {text} in all.", options) for text in options.values()] == ["A", "B", "C", "D"]
