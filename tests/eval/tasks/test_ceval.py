"""C-Eval's counts, and the file that is submitted for its test split."""

import json
import os
from pathlib import Path

import pytest

from qianwen.eval.task import Answer, Scored, TaskOptions
from qianwen.eval.tasks.ceval import CEVAL, SUBMISSION, CEvalTest

COUNTS = {"STEM": 430, "Social Sciences": 275, "Humanities": 257, "Others": 384, "Hard": 152}
BENCHMARKS = Path(os.environ.get("QIANWEN_BENCHMARKS", "/nonexistent"))


def test_the_submission_has_a_letter_for_each_id_of_each_subject(tmp_path: Path) -> None:
    for split in ("test", "dev"):
        (tmp_path / split).mkdir()
        header = "id,question,A,B,C,D" + (",answer,explanation" if split == "dev" else "")
        for subject in ("law", "logic"):
            rows = [f"{i},q?,1,2,3,4" + (",A,because" if split == "dev" else "") for i in range(5)]
            (tmp_path / split / f"{subject}_{split}.csv").write_text("\n".join([header, *rows]) + "\n")
    task = CEvalTest(TaskOptions(data=tmp_path))
    scored = []
    for number, example in enumerate(task.examples()):
        answer = Answer(choice_logprobs=tuple(float(i == number % 4) for i in range(4)))
        scored.append(Scored(example, answer, task.score(example, answer)))
    assert [each.score.verdict for each in scored] == ["unjudged"] * 10
    assert {name: value.value for name, value in task.estimates(scored).items()} == {"answered": 1}
    files = task.files(scored)
    assert json.loads(files[SUBMISSION]) == {
        "law": {"0": "A", "1": "C", "2": "A", "3": "C", "4": "A"},
        "logic": {"0": "B", "1": "D", "2": "B", "3": "D", "4": "B"},
    }
    assert task.chance is None


@pytest.mark.skipif(not (BENCHMARKS / "ceval.zip").exists(), reason="QIANWEN_BENCHMARKS has no ceval.zip")
def test_the_published_questions() -> None:
    questions = CEVAL.read(BENCHMARKS, "val")
    assert len(questions) == 52 and sum(map(len, questions.values())) == 1346
    counts = {name: sum(len(questions[each]) for each in names.split()) for name, names in CEVAL.categories.items()}
    assert counts == COUNTS
    assert all(len(shots) == 5 for shots in CEVAL.read(BENCHMARKS, "dev").values())
    assert sum(map(len, CEVAL.read(BENCHMARKS, "test", is_answered=False).values())) == 12_342
