"""How a run goes, from its metrics: a smoothed curve, and one sentence such as "held-out −0.12 since step 800".

The sentence compares the newest value with the one at half of the steps: of each loss on held-out texts where they are
measured, else of the smoothed training loss. Rows are those of `displayed_metrics`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qianwen.runtime.translation import tr

HELD_OUT = "held_out"
SPAN = 0.1  # of the curve, over which the smoothed curve averages
SAME = 1e-3  # a relative change below this is none
Point = tuple[int, float]


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The exponential moving average over about a tenth of the points, without bias towards zero at the start."""
    weight = 2 / (max(1.0, SPAN * len(points)) + 1)
    total, mass, out = 0.0, 0.0, []
    for step, value in points:
        total, mass = total * (1 - weight) + value * weight, mass * (1 - weight) + weight
        out.append((step, total / mass))
    return out


def points_of(rows: Sequence[Mapping[str, Any]], name: str) -> list[Point]:
    """The steps and values of one metric."""
    return [(row["step"], row[name]) for row in rows if is_number(row.get(name)) and "step" in row]


def is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def trend(rows: Sequence[Mapping[str, Any]]) -> str:
    """The sentence; empty for a run with too few measurements."""
    held_out = dict.fromkeys(name for row in rows for name in row if name.startswith(HELD_OUT))
    if not held_out:
        return _change(tr("loss"), smoothed(points_of(rows, "loss")))
    labels = {name: f"{tr('held-out')} {name.removeprefix(HELD_OUT).strip('_')}".rstrip() for name in held_out}
    return "; ".join(filter(None, (_change(label, points_of(rows, name)) for name, label in labels.items())))


def _change(label: str, points: Sequence[Point]) -> str:
    if len(points) < 2:
        return ""
    (last, now), half = points[-1], points[-1][0] / 2
    since, before = next((point for point in reversed(points[:-1]) if point[0] <= half), points[0])
    change = now - before
    if abs(change) <= SAME * abs(before):
        return tr("{name} unchanged since step {step:,}", name=label, step=since)
    sentence = tr("{name} {change} since step {step:,}", name=label, change=signed(change), step=since)
    best_step, best = min(points, key=lambda point: point[1])
    if change > 0 and best_step not in (since, last):
        sentence += tr(" (lowest {value:.4g} at step {step:,})", value=best, step=best_step)
    return sentence


def signed(value: float) -> str:
    """Two digits with a sign: `+0.12`, `−1.3`."""
    return f"{value:+.2g}".replace("-", "−")
