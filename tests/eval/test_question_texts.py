"""Worked examples are cut off the beginning of prompts, and nothing else."""

import pytest

from qianwen.eval.question_texts import common_length, question_texts

SHOTS = "问题：一？\n答案：A\n\n问题：二？\n答案：B\n\n"


@pytest.mark.parametrize(
    ("prompts", "questions"),
    [
        ([], []),
        (["a question"], ["a question"]),
        (["x", "y"], ["x", "y"]),
        ([f"{SHOTS}问题：三", f"{SHOTS}问题：四"], ["问题：三", "问题：四"]),
        ([f"{SHOTS}问题：三", "问题：别\n\n问题：五"], ["问题：三", "问题：五"]),  # no shots in common
        ([f"{SHOTS}问题：三", f"{SHOTS}问题：三"], ["问题：三", "问题：三"]),
        (["head\n\nshot\n\n", "head\n\nshot\n\n"], ["head\n\nshot\n\n", "head\n\nshot\n\n"]),
        (["a\n\nb", "c\n\nd"], ["a\n\nb", "c\n\nd"]),  # paragraphs are not worked examples
        (["", ""], ["", ""]),
    ],
)
def test_questions(prompts: list[str], questions: list[str]) -> None:
    assert question_texts(prompts) == questions


def test_each_subject_has_its_own_worked_examples() -> None:
    prompts = [f"{subject}\n\nQ: shot\nA: 1\n\nQ: {number}\nA:" for subject in ("law", "art") for number in range(3)]
    assert question_texts(prompts) == [f"Q: {number}\nA:" for _ in range(2) for number in range(3)]


@pytest.mark.parametrize(("a", "b", "length"), [("", "", 0), ("a", "", 0), ("ab", "ac", 1), ("ab", "abc", 2)])
def test_common_length(a: str, b: str, length: int) -> None:
    assert common_length(a, b) == common_length(b, a) == length
