"""MMLU's counts, passages and the five orders of its worked examples."""

import math
import os
from pathlib import Path

import pytest

from qianwen.eval.task import Answer, Scored, TaskOptions
from qianwen.eval.tasks import TASKS
from qianwen.eval.tasks.mmlu import MMLU, ShotOrders, passage

COUNTS = {"STEM": 3153, "Social Sciences": 3077, "Humanities": 4705, "Others": 3107}
BENCHMARKS = Path(os.environ.get("QIANWEN_BENCHMARKS", "/nonexistent"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, rows in (("test", 3), ("dev", 5)):
        (tmp_path / split).mkdir()
        for subject in ("virology", "sociology"):
            text = "".join(f"{split} {i}?,1,2,3,4,{'ABCDA'[i]}\n" for i in range(rows))
            (tmp_path / split / f"{subject}_{split}.csv").write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("This question refers to the following information.\nA letter.\nWho?", True),
        ("This question refers to the following table.\nA letter.\nWho?", False),
        ("A letter.\nWho?", False),
        ("Who?", False),
        ("", False),
    ],
)
def test_a_passage_is_all_but_the_last_line(text: str, expected: bool) -> None:
    assert passage(text) == (text.rpartition("\n")[0] if expected else "")


def test_each_worked_example_is_once_at_each_place(folder: Path) -> None:
    task = ShotOrders("mmlu-shot-orders", MMLU, TaskOptions(data=folder))
    examples = list(task.examples())
    assert [example.facts["order"] for example in examples] == [0, 1, 2, 3, 4] * 6
    orders = []
    for example in examples[:5]:
        lines = [line for line in example.context.splitlines() if line.startswith("Question: ")]
        assert lines[-1] == "Question: test 0?"
        orders.append([int(line.split()[-1].rstrip("?")) for line in lines[:-1]])
    assert orders[0] == [0, 1, 2, 3, 4]
    assert all(sorted(place) == [0, 1, 2, 3, 4] for place in [*orders, *zip(*orders, strict=True)])
    published = next(iter(TASKS["mmlu"](TaskOptions(data=folder)).examples()))
    assert examples[0].context == published.context and examples[0].cluster == published.cluster


def test_the_spread_over_the_orders_by_hand(folder: Path) -> None:
    """Order 2 always chooses A, the others the right letter: of six questions, two are A."""
    task = ShotOrders("mmlu-shot-orders", MMLU, TaskOptions(data=folder))
    scored = []
    for example in task.examples():
        letter = "A" if example.facts["order"] == 1 else example.facts["target"]
        answer = Answer(choice_logprobs=tuple(0.0 if each == letter else -math.inf for each in "ABCD"))
        scored.append(Scored(example, answer, task.score(example, answer)))
    values = {name: estimate.value for name, estimate in task.estimates(scored).items()}
    assert values == {
        "acc": pytest.approx((4 + 1 / 3) / 5),
        "acc/lowest": pytest.approx(1 / 3),
        "acc/highest": 1,
        **{f"acc/order {order}": (pytest.approx(1 / 3) if order == 2 else 1) for order in range(1, 6)},
        "same_letter": pytest.approx(1 / 3),
    }


@pytest.mark.skipif(not (BENCHMARKS / "mmlu.zip").exists(), reason="QIANWEN_BENCHMARKS has no mmlu.zip")
def test_the_published_questions() -> None:
    questions = MMLU.read(BENCHMARKS, "test")
    assert len(questions) == 57 and sum(map(len, questions.values())) == 14_042
    counts = {name: sum(len(questions[each]) for each in names.split()) for name, names in MMLU.categories.items()}
    assert counts == COUNTS
    history = [f"high_school_{kind}_history" for kind in ("european", "us", "world")]
    assert [len(set(MMLU.clusters(questions[each]).values())) for each in history] == [60, 66, 75]
    clusters = [cluster for each in questions.values() for cluster in MMLU.clusters(each).values()]
    assert len(set(clusters)) == 14_042 - 606 + 201
