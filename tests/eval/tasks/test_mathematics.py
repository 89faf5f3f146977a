"""GSM8K: the number a reply ends in against the one after the four signs."""

from pathlib import Path

import pytest

from qianwen.eval.task import Answer
from qianwen.eval.tasks.mathematics import Gsm8k
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl

PROBLEM = {"question": "48 clips, and half as many again?", "answer": "48/2 = <<48/2=24>>24\n48+24=72\n#### 72"}


@pytest.mark.parametrize(
    ("reply", "right"),
    [("48 + 24 = 72.", 1), ("The answer is \\boxed{72} of 80", 1), ("72 clips, not 70", 0), ("1,072", 0), ("", 0)],
)
def test_the_last_number_counts(tmp_path: Path, reply: str, right: int) -> None:
    write_jsonl(tmp_path / "gsm8k.jsonl", [PROBLEM])
    task = Gsm8k(str(tmp_path / "gsm8k.jsonl"))
    example = next(iter(task.examples()))
    assert example.messages[0].content == PROBLEM["question"]
    assert task.score(example, Answer(text=reply)).shares == {"exact_match": (right, 1)}


@pytest.mark.parametrize("row", [{"question": "1 + 1?"}, {"question": "1 + 1?", "answer": "two"}, {"answer": "2"}])
def test_a_row_that_cannot_be_judged_is_named(tmp_path: Path, row: dict) -> None:
    write_jsonl(tmp_path / "gsm8k.jsonl", [PROBLEM, row])
    with pytest.raises(DataError, match="row 2"):
        list(Gsm8k(str(tmp_path / "gsm8k.jsonl")).examples())
