"""Form and arithmetic of held-out answers."""

from pathlib import Path

import pytest

from qianwen.align.corpus_questions import Pair
from qianwen.eval.task import Answer
from qianwen.eval.tasks.questions import Questions, majority
from qianwen.runtime.files import write_jsonl

BREAD = Pair("What is bread?", "Bread is a food.", "definition", "Bread (is|was) ")
SUM = Pair("What is 2 + 2?", "2 + 2 = 4.", "arithmetic", r"2 \+ 2 = ")


@pytest.fixture
def task(tmp_path: Path) -> Questions:
    write_jsonl(tmp_path / "q.jsonl", [BREAD.row(), SUM.row()])
    return Questions(str(tmp_path / "q.jsonl"))


@pytest.mark.parametrize(
    ("text", "stopped", "opens", "both"),
    [
        ("Bread is a city.", True, 1, 1),
        ("Bread is a city", False, 1, 0),
        ("Beer is a drink.", True, 0, 0),
        ("Well, Bread is a food.", True, 0, 0),
        ("", True, 0, 0),
    ],
)
def test_an_open_answer_is_judged_by_its_form(task: Questions, text: str, stopped: bool, opens: int, both: int) -> None:
    shares = task.score(next(iter(task.examples())), Answer(text=text, is_stopped=stopped)).shares
    assert shares["opens"] == (opens, 1) and shares["opens_and_stops"] == (both, 1)
    assert shares["opens_and_stops/definition"] == (both, 1) and "exact_match" not in shares


@pytest.mark.parametrize(
    ("text", "right"), [("2 + 2 = 4.", 1), ("2 + 2 = 44.", 0), ("2 + 2 = 4", 1), ("4", 1), ("", 0)]
)
def test_arithmetic_is_judged_by_its_result(task: Questions, text: str, right: int) -> None:
    _, example = task.examples()
    assert [message.content for message in example.messages] == ["What is 2 + 2?"]
    assert task.score(example, Answer(text=text)).shares["exact_match"] == (right, 1)


def test_the_majority_answer_is_learned_and_asked() -> None:
    assert majority(["7", "7", "9"], ["7", "8", "9", "7"]) == 0.5
