"""What the measures of `memo_long_context.py` say: perplexities, their excess, the bars, and the figure.

Perplexity is exp(nats / tokens) over all documents; the mean is that of the seeds. Excess is in nats: the loss at a
length minus the loss of the same row at the trained length. The last stage asserts that no method changes a bit up to
the trained length.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memo_rows import MEMO_ROWS, ROWS, Sums
from memo_texts import HELD_OUT
from memo_training import Setup
from rich.table import Table

from qianwen.eval.charts import curve_chart
from qianwen.eval.curves import Curve
from qianwen.eval.metrics import Estimate, Share, estimate

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PUBLISHED = {  # the memo, Qwen-7B on arXiv texts: 0.5× to 8× of 2,048 tokens
    "plain": (4.23, 3.78, 39.35, 469.81, 2645.09),
    "dynamic_ntk": (4.23, 3.78, 3.59, 3.66, 5.71),
    "dynamic_ntk + logn": (4.23, 3.78, 3.58, 3.56, 4.62),
    "dynamic_ntk + logn + local_attn": (4.23, 3.78, 3.58, 3.49, 4.32),
}
EVERY, LATE = 0, 2  # where the nats are in a row of the sums, and the tokens behind them


def load(folder: Path, name: str) -> dict[str, Any]:
    """The measured rows of a model, in the order of `ROWS` where they are there."""
    found = {path.stem: path for path in sorted((folder / "measures" / name).glob("*.json"))}
    ordered = [row for row in ROWS if row in found] + [row for row in found if row not in ROWS]
    return {row: json.loads(found[row].read_text()) for row in ordered}


def perplexity(documents: Sequence[Sequence[float]], part: int = EVERY) -> float:
    return math.exp(sum(each[part] for each in documents) / sum(each[part + 1] for each in documents))


def times(length: int | str, train_len: int) -> str:
    return f"{int(length) / train_len:g}x"


def summary(folder: Path, setup: Setup) -> dict[str, Any]:
    """Everything that is measured by now."""
    train_len = setup.plan.train_len
    columns = [row["column"] for row in json.loads((folder / HELD_OUT).read_text())]
    seeds = {name: load(folder, name) for name in sorted(p.name for p in (folder / "measures").glob("seed-?"))}
    rows = {row: [each[row] for each in seeds.values()] for row in ROWS if all(row in each for each in seeds.values())}
    values: dict[str, Any] = {
        "setup": {"tokens": setup.tokens, "trained length": train_len, "seeds": len(seeds), "documents": len(columns)},
        "published": {
            row: dict(zip(("0.5x", "1x", "2x", "4x", "8x"), numbers, strict=True)) for row, numbers in PUBLISHED.items()
        },
        "rows": {row: by_length(sums, train_len) for row, sums in rows.items()},
        "columns": {row: by_column(sums[0], columns, train_len) for row, sums in rows.items()},
        "keys": {
            name: key_shares(folder, f"{name}-keys", train_len) for name in [*seeds, "extended", "extended-old-base"]
        },
    }
    for name in ("patterns", "logn-0", "extended", "extended-old-base", *bit_names(folder)):
        values[name] = {row: by_length([sums], train_len) for row, sums in load(folder, name).items()}
    values["pattern keys"] = key_shares(folder, "patterns-keys", train_len)
    values["extended pattern keys"] = key_shares(folder, "patterns-extended-keys", train_len)
    values["over training"] = over_training(folder, train_len)
    if rows:
        check_short_texts(rows, train_len)
        values["bars"] = bars(values["rows"])
    return values


def bit_names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "measures").glob("bits-*"))


def by_length(seeds: Sequence[Sums], train_len: int) -> dict[str, dict[str, Any]]:
    """For each length the mean, each seed, the excess, the last quarter, and the interval by document of seed 0."""
    table: dict[str, dict[str, Any]] = {}
    at_trained = [perplexity(sums[str(train_len)]) for sums in seeds]
    for length in seeds[0]:
        each = [perplexity(sums[length]) for sums in seeds]
        low, high = estimate([Share(*document[:2]) for document in seeds[0][length]])[1:3]
        table[times(length, train_len)] = {
            "mean": statistics.fmean(each),
            "seeds": each,
            "excess": statistics.fmean(math.log(a / b) for a, b in zip(each, at_trained, strict=True)),
            "last quarter": statistics.fmean(perplexity(sums[length], LATE) for sums in seeds),
            "interval": [math.exp(low), math.exp(high)],
        }
    return table


def by_column(sums: Sums, columns: Sequence[str], train_len: int) -> dict[str, dict[str, float]]:
    """Length → LaTeX and the rest, of one seed."""
    table: dict[str, dict[str, float]] = {}
    for length, documents in sums.items():
        pairs = list(zip(columns, documents, strict=True))
        parts = {"LaTeX": [d for c, d in pairs if c == "LaTeX"], "other": [d for c, d in pairs if c != "LaTeX"]}
        table[times(length, train_len)] = {name: perplexity(part) for name, part in parts.items()}
    return table


def key_shares(folder: Path, name: str, train_len: int) -> dict[str, dict[str, float]]:
    """Row → length → share of the passkeys that were found."""
    return {
        row: {times(n, train_len): statistics.fmean(right for _, right in each) for n, each in lengths.items()}
        for row, lengths in load(folder, name).items()
    }


def over_training(folder: Path, train_len: int) -> dict[str, dict[str, dict[str, float]]]:
    """Step → row → length → perplexity, over the checkpoints of the long run."""
    table = {}
    for path in sorted((folder / "measures").glob("long-0-*")):
        rows = load(folder, path.name)
        table[path.name.rpartition("-")[2]] = {
            row: {times(n, train_len): perplexity(documents) for n, documents in sums.items()}
            for row, sums in rows.items()
        }
    return table


def check_short_texts(rows: dict[str, list[Sums]], train_len: int) -> None:
    """Up to the trained length no method may change a bit."""
    for row, seeds in rows.items():
        for plain, sums in zip(rows["plain"], seeds, strict=True):
            for length in (str(train_len // 2), str(train_len)):
                assert sums[length] == plain[length], f"{row} differs from plain at {length} tokens"


def bars(rows: dict[str, dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """The claims as numbers; each ratio is of perplexities."""

    def seeds(row: str, length: str) -> list[float]:
        return rows[row][length]["seeds"]

    def largest_ratio(row: str, other: str, length: str) -> float:
        return max(a / b for a, b in zip(seeds(row, length), seeds(other, length), strict=True))

    full, ntk_logn = MEMO_ROWS[3], MEMO_ROWS[2]
    lengths = [length for length in ("4x", "8x", "16x") if length in rows["plain"]]
    worst = {length: max(MEMO_ROWS, key=lambda row: rows[row][length]["mean"]) for length in lengths}
    return {
        "worst of the memo's rows": worst,
        "excess of plain, nats": {length: rows["plain"][length]["excess"] for length in lengths},
        "all methods, over its trained length": {
            length: rows[full][length]["mean"] / rows[full]["1x"]["mean"] for length in lengths
        },
        "dynamic_ntk over plain, worst seed": {
            length: largest_ratio("dynamic_ntk", "plain", length) for length in lengths
        },
        "windows over their absence, worst seed": {length: largest_ratio(full, ntk_logn, length) for length in lengths},
    }


def show(rows: dict[str, dict[str, dict[str, Any]]], title: str) -> Table:
    """Perplexity of each row at each length, the excess in nats in brackets."""
    lengths = list(next(iter(rows.values())))
    table = Table("", *lengths, title=title, box=None, header_style="dim")
    for name, cells in rows.items():
        table.add_row(name, *(f"{cells[n]['mean']:.2f} ({cells[n]['excess']:+.3f})" for n in lengths))
    return table


def figure(rows: dict[str, dict[str, dict[str, Any]]], train_len: int) -> Figure:
    """The memo's rows, and windows alone, as curves over the length."""
    curves = []
    for name in (*MEMO_ROWS, "windows 1x"):
        points = []
        for multiple, cell in rows[name].items():
            low, high = cell["interval"]
            points.append((int(float(multiple.removesuffix("x")) * train_len), Estimate(cell["mean"], low, high, 0)))
        curves.append(Curve(name, points))
    return curve_chart(curves, "perplexity")
