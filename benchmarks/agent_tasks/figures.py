"""What the figures of a run show: its cells run again in the sandbox, and the data of every chart is read back.

A picture cannot be compared with numbers, but the objects of matplotlib can. The cells of a run are executed in order,
each as the kernel does it (an error ends the cell, not the run); at the end of a cell, and before a figure is shown or
closed, what is in its axes is written down as series of numbers.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Sandbox

MARK = "@@series@@"
TOLERANCE = 2e-3  # relative: values may be rounded before they are drawn
REPLAY = """
import contextlib, io, json, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
series = []
close = plt.close

def numbers(values):
    return [float(value) for value in np.ravel(np.asarray(values, dtype=float)) if np.isfinite(value)]

def read(axes):
    for bars in axes.containers:
        if isinstance(bars, matplotlib.container.BarContainer):
            is_flat = getattr(bars, "orientation", "vertical") == "horizontal"
            yield "bar", [bar.get_width() if is_flat else bar.get_height() for bar in bars]
    for line in axes.lines:
        yield ("scatter" if line.get_linestyle() in ("None", "", " ") else "line"), line.get_ydata()
    for points in axes.collections:
        if isinstance(points, matplotlib.collections.PathCollection):
            yield "scatter", points.get_offsets()[:, 1]
    wedges = [patch for patch in axes.patches if isinstance(patch, matplotlib.patches.Wedge)]
    if wedges:
        yield "pie", [(wedge.theta2 - wedge.theta1) / 360 for wedge in wedges]

def record(*_, **__):
    for number in plt.get_fignums():
        figure = plt.figure(number)
        found = []
        for axes in figure.axes:
            for kind, values in read(axes):
                with contextlib.suppress(TypeError, ValueError):
                    found.append([kind, numbers(values)])
        series.append(found)
        close(figure)

plt.show = plt.close = record
space = {"__name__": "__main__"}
for cell in json.load(open("cells.json", encoding="utf-8")):
    kept = [" " * (len(line) - len(line.lstrip())) + "pass" if line.lstrip()[:1] in ("%", "!") else line
            for line in cell.splitlines()]
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            exec(compile("\\n".join(kept), "cell", "exec"), space)
        except BaseException:
            pass
        record()
sys.__stdout__.write("\\n" + MARK + json.dumps(series) + "\\n")
"""


def drawn(cells: Sequence[str], files: Sequence[Path]) -> list[list[tuple[str, list[float]]]]:
    """For each figure that the cells draw, its series: kind and values."""
    contents = {path.name: path.read_bytes() for path in files}
    contents["cells.json"] = json.dumps(list(cells)).encode()
    limits = Limits(cpu_seconds=60, wall_seconds=180, memory_bytes=4 << 30)
    outcome = Sandbox.open().run_python(f"MARK = {MARK!r}\n{REPLAY}", files=contents, limits=limits)
    _, mark, rows = outcome.stdout.rpartition(MARK)
    if not mark:
        raise RuntimeError(f"the cells could not be run again: {outcome.status} {outcome.stderr[-500:]}")
    return [[(kind, values) for kind, values in figure] for figure in json.loads(rows)]


def shows(figure: Sequence[tuple[str, Sequence[float]]], expected: Mapping[str, Any]) -> bool:
    """Whether a figure has every series that was asked for, in the kind of chart that was asked for."""
    kind = expected["kind"]
    if kind == "histogram":
        size, count = expected["bins"], expected["count"]
        return any(name == "bar" and len(v) == size and math.isclose(sum(v), count) for name, v in figure)
    drawn_values = [values for name, values in figure if name == kind]
    return all(any(_same(values, right, kind) for values in drawn_values) for right in expected["series"])


def _same(values: Sequence[float], right: Sequence[float], kind: str) -> bool:
    """Lines keep their order. Bars, points and slices may have any; slices are shares of the whole."""
    if kind == "pie":
        right = [value / sum(right) for value in right]
    if kind != "line":
        values, right = sorted(values), sorted(right)
    return len(values) == len(right) and all(
        math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=TOLERANCE) for a, b in zip(values, right, strict=True)
    )
