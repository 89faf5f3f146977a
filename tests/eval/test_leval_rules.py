"""Known answers of L-Eval's published rules, misreadings included."""

import pytest

from qianwen.eval import leval_rules as rules


@pytest.mark.parametrize(
    ("reply", "read"),
    [
        ("C", "C"),
        ("(B) They were tired.", "B"),
        ("The answer is D.", "D"),
        ("Answer: C", "A"),
        ("no idea", ""),
        ("", ""),
    ],
)
def test_a_letter_is_the_first_capital(reply: str, read: str) -> None:
    assert rules.letter(reply) == read


@pytest.mark.parametrize(
    ("reply", "read"),
    [("BD", "BD"), ("DBB", "BD"), ("A, C and D.", "ACD"), ("A. yes\nC) no", "AC"), ("A and C. Question 2: D.", "AC"),
     ("B, D", "B"), ("none", "")],
)  # fmt: skip
def test_letters_are_all_that_are_named(reply: str, read: str) -> None:
    assert rules.letters(reply) == read


@pytest.mark.parametrize(
    ("read", "reference", "credit"),
    [
        ("AC", "AC", 1),
        ("A", "AC", 0.25),
        ("AB", "AC", 0),
        ("ABC", "AC", 0),
        ("", "AC", 0),
        ("B", "B", 1),
        ("A", "B", 0),
    ],
)
def test_some_of_the_right_letters_are_a_quarter(read: str, reference: str, credit: float) -> None:
    assert rules.letters_credit(read, reference) == credit


def test_a_reference_is_its_first_word() -> None:
    assert rules.reference_letters("BD") == "BD"
    assert rules.reference_letters("(B) Because Dan says so") == "B"


@pytest.mark.parametrize(
    ("reply", "read"),
    [("She sells 9. The answer is 18", "18"), ("The answer is $70,000.00.", "70000"), ("so 5 boxes, 540 metres", "540"),
     ("first 3\n\nthen 4", "3"), ("nothing", "")],
)  # fmt: skip
def test_a_number_is_the_stated_or_the_last_one_of_the_first_paragraph(reply: str, read: str) -> None:
    assert rules.number(reply) == read


@pytest.mark.parametrize(("reply", "read"), [("True.", "true"), ("It is False, not True", "false"), ("Yes", "")])
def test_a_judgement_is_the_first_of_both_words(reply: str, read: str) -> None:
    assert rules.judgement(reply) == read


def test_the_output_of_a_program_may_be_in_a_sentence_and_with_other_spaces() -> None:
    reference = rules.code("[1.0, 2, 3]")
    assert rules.code_credit(rules.code_answer("The printed value will be [1, 2,3]", "[1, 2, 3]"), reference) == 1
    assert rules.code_credit(rules.code_answer("the final output is 7 and some more words follow here", "7"), "7") == 1
    assert rules.code_credit(rules.code_answer("[1, 2, 4]", "[1, 2, 3]"), reference) == 0
