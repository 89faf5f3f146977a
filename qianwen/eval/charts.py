"""Charts of results: values with their intervals, beside chance level or published figures; heat maps of grids."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from qianwen.eval.curves import Curve
from qianwen.eval.grids import Grid
from qianwen.eval.metrics import Estimate
from qianwen.eval.tables import Cell, Table
from qianwen.runtime.page import PALETTE, fixed_ink, new_axes
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

OURS, QWEN, RIVAL = PALETTE[1], PALETTE[0], PALETTE[6]
LINE_HEIGHT, FRAME_HEIGHT = 0.3, 0.9  # inches
COLORS = "cividis"  # it looks the same to readers who do not tell red from green, and its lightness is in order
MAX_LABEL_LEN = 34


class Bar(NamedTuple):
    """One line of a chart."""

    label: str
    value: float
    low: float
    high: float
    chance: float | None = None


def metric_chart(bars: Sequence[Bar], label: str) -> "Figure":
    """Each value as a point with its interval; a mark for the value of random guessing."""
    figure, (axes,) = new_axes(height=FRAME_HEIGHT + LINE_HEIGHT * len(bars))
    places = range(len(bars), 0, -1)
    sides = _sides([Estimate(bar.value, bar.low, bar.high, 0) for bar in bars])
    axes.errorbar([bar.value for bar in bars], places, xerr=sides, fmt="o", color=OURS, capsize=3)
    chances = [(bar.chance, place) for bar, place in zip(bars, places, strict=True) if bar.chance is not None]
    if chances:
        axes.plot(*zip(*chances, strict=True), "|", color=RIVAL, markersize=14, markeredgewidth=2, label=tr("chance"))
        axes.legend(loc="upper right", fontsize=9)
    axes.set_ylim(0.4, len(bars) + 0.6)
    _label(axes, [bar.label for bar in bars], places)
    axes.set_xlabel(label)
    return figure


def curve_chart(curves: Sequence[Curve], label: str) -> "Figure":
    """A line for each curve over the length in tokens, which doubles; a band is the interval of all examples."""
    figure, (axes,) = new_axes()
    for curve in curves:
        lengths = [length for length, _ in curve.points]
        estimates = [estimate for _, estimate in curve.points]
        width = 1.2 if curve.part else 2.2
        axes.plot(
            lengths,
            [each.value for each in estimates],
            "o-",
            linewidth=width,
            label=curve.part.replace("$", r"\$") or tr("all"),
        )
        if not curve.part:
            axes.fill_between(lengths, [each.low for each in estimates], [each.high for each in estimates], alpha=0.15)
    axes.set_xscale("log", base=2)
    ticks = sorted({length for curve in curves for length, _ in curve.points})
    axes.set_xticks(ticks, [f"{length:,}" for length in ticks])
    axes.minorticks_off()
    axes.set_xlabel(tr("tokens of a window"))
    axes.set_ylabel(label)
    axes.legend(fontsize=9)
    return figure


def table_chart(table: Table, column: int) -> "Figure":
    """A column of a published table: its rows, those of Qwen in another colour, and ours with its interval."""
    rows = [(row.name, row.kind, row.cells[column]) for row in table.rows if row.cells[column].value is not None]
    rows.sort(key=lambda row: _number(row[2]))
    figure, (axes,) = new_axes(height=FRAME_HEIGHT + LINE_HEIGHT * len(rows))
    places = range(len(rows))
    colors = [{"ours": OURS, "qwen": QWEN}.get(kind, RIVAL) for _, kind, _ in rows]
    axes.barh(places, [_number(cell) for _, _, cell in rows], height=0.62, color=colors)
    for place, (_, kind, cell) in zip(places, rows, strict=True):
        value = _number(cell)
        estimate = Estimate(value, cell.low, cell.high, 0) if cell.low is not None and cell.high is not None else None
        if kind == "ours" and estimate:
            axes.errorbar([value], [place], xerr=_sides([estimate]), fmt="none", ecolor=PALETTE[3], capsize=3)
        end = estimate.high if estimate else value
        axes.annotate(cell.text, (max(end, value), place), (5, 0), textcoords="offset points", va="center", fontsize=9)
    axes.margins(x=0.16)
    _label(axes, [name for name, _, _ in rows], places)
    axes.set_xlabel(table.columns[column])
    return figure


def heat_map(grid: Grid) -> "Figure":
    """The value of each cell as a colour from 0 to 1 and as a number, in percent."""
    figure, (axes,) = new_axes(height=FRAME_HEIGHT + LINE_HEIGHT * len(grid.rows))
    values = [[grid.cells.get((row, column), float("nan")) for column in grid.columns] for row in grid.rows]
    axes.imshow(values, cmap=COLORS, vmin=0, vmax=1, aspect="auto")
    for y, line in enumerate(values):
        for x, value in enumerate(line):
            if value == value:  # nan: nothing was measured
                text = axes.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=9)
                fixed_ink(text, "black" if value > 0.45 else "white")
    axes.grid(visible=False)
    axes.set_xticks(range(len(grid.columns)), [_tick(column) for column in grid.columns])
    _label(axes, [_tick(row) for row in grid.rows], range(len(grid.rows)))
    axes.set_xlabel(fact_label(grid.column_fact))
    axes.set_ylabel(fact_label(grid.row_fact))
    return figure


def fact_label(fact: str) -> str:
    """A fact of the examples as the label of an axis."""
    labels = {"depth": tr("depth in percent"), "length": tr("length in tokens"), "kind": tr("kind")}
    return labels.get(fact, fact)


def _tick(value: str | int) -> str:
    return f"{value:,}" if isinstance(value, int) else value


def _number(cell: Cell) -> float:
    return cell.value if cell.value is not None else float("nan")


def _sides(estimates: Sequence[Estimate]) -> list[list[float]]:
    """The lengths of both sides of each interval. A bootstrap interval of few examples may leave out the value."""
    low = [max(0.0, each.value - each.low) for each in estimates]
    return [low, [max(0.0, each.high - each.value) for each in estimates]]


def _label(axes: "Axes", labels: Sequence[str], places: Sequence[int]) -> None:
    short = (text if len(text) <= MAX_LABEL_LEN else f"{text[: MAX_LABEL_LEN - 1]}…" for text in labels)
    axes.set_yticks(places, [text.replace("$", r"\$") for text in short])
    axes.grid(axis="y", visible=False)
