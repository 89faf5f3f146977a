"""Metrics by length as curves: one of all documents, and one of each corpus.

A task whose settings have `curve` names its metrics `METRIC/LENGTH` and `METRIC/LENGTH/PART`.
"""

from typing import NamedTuple

from qianwen.eval.metrics import Estimate
from qianwen.eval.results import TaskResults


class Curve(NamedTuple):
    """A metric of one part of the examples, by length. `part` is empty for all examples."""

    part: str
    points: list[tuple[int, Estimate]]


def curves(task: TaskResults) -> dict[str, list[Curve]]:
    """The curves of each metric; none if the task has no lengths."""
    found: dict[str, dict[str, list[tuple[int, Estimate]]]] = {}
    for metric in task.settings.get("curve", {}).get("metrics", ()):
        for name, estimate in task.metrics.items():
            kind, _, rest = name.partition("/")
            if kind == metric:
                length, _, part = rest.partition("/")
                found.setdefault(metric, {}).setdefault(part, []).append((int(length), estimate))
    return {metric: [Curve(part, sorted(points)) for part, points in parts.items()] for metric, parts in found.items()}
