"""Metrics by length become curves, whatever their order."""

from pathlib import Path

from qianwen.eval.curves import Curve, curves
from qianwen.eval.metrics import Estimate
from qianwen.eval.results import TaskResults

ONE, TWO, THREE = (Estimate(float(n), n - 0.5, n + 0.5, 3) for n in (1, 2, 3))


def task(metrics: dict[str, Estimate], settings: dict) -> TaskResults:
    return TaskResults("t", metrics, None, settings, 3, 0, Path("rows.jsonl"))


def test_a_curve_for_all_examples_and_for_each_part() -> None:
    metrics = {"ppl/16": TWO, "ppl/8": ONE, "ppl/8/a/b": THREE, "ppl_late/8": ONE, "acc/8": ONE}
    found = curves(task(metrics, {"curve": {"metrics": ["ppl", "ppl_late"]}}))
    assert found == {
        "ppl": [Curve("", [(8, ONE), (16, TWO)]), Curve("a/b", [(8, THREE)])],
        "ppl_late": [Curve("", [(8, ONE)])],
    }


def test_other_tasks_have_none() -> None:
    assert curves(task({"ppl/16": TWO}, {"shots": 5})) == {}
