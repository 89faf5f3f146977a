"""A comparison of two folders of results as a table on the console, as Markdown, and as JSON with every example."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.table import Table
from rich.text import Text

from qianwen.eval.compare import LEVEL, Comparison, Difference, TaskComparison
from qianwen.runtime.files import atomic_file, json_text
from qianwen.runtime.translation import tr

FILES = ("diff.md", "diff.json")
MAX_EXAMPLES = 10  # indices of each change that are printed; all are in the files
MAX_VALUE_LEN = 60  # characters of a setting


def diff_table(comparison: Comparison) -> Table:
    """One row for each metric, the main metrics first. The name of the test is in the files only."""
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    for place, heading in enumerate(_header()[:-1]):
        table.add_column(heading, justify="left" if place < 2 else "right", overflow="fold")
    for each in comparison.differences:
        style = "" if each.is_tied else "green" if each.difference > 0 else "yellow"
        table.add_row(*map(Text, _cells(each)[:-1]), style=style)
    for cells in _not_compared(comparison):
        table.add_row(*map(Text, cells[:-1]), style="dim")
    return table


def notes(comparison: Comparison, limit: int = MAX_EXAMPLES) -> Iterator[str]:
    """What a reader must know beside the table: other settings, examples that are not compared, changed verdicts."""
    for name, (one, two) in comparison.settings.items():
        yield tr("the settings differ: {name} is {first} in A and {second} in B", name=name, **_both(one, two))
    for folder, names in comparison.alone.items():
        yield tr("only in {folder}: {tasks}", folder=folder, tasks=", ".join(names))
    for task in comparison.tasks:
        for name, (one, two) in task.settings.items():
            message = "{task}: the settings differ: {name} is {first} in A and {second} in B"
            yield tr(message, task=task.name, name=name, **_both(one, two))
        for reason, indices in _grouped(task.unpaired).items():
            message = "{task}: examples that are not compared, {reason} ({count:,}): {indices}"
            yield tr(message, task=task.name, count=len(indices), reason=reason, indices=_listed(indices, limit))
        yield from _changes(task, limit)
    if any(each.is_mean for each in comparison.differences):
        yield tr("(mean): the mean of the examples' scores; the task itself computes its value in another way")


def _changes(task: TaskComparison, limit: int) -> Iterator[str]:
    kinds: dict[tuple[str, str], list[int]] = {}
    for change in task.changes:
        kinds.setdefault((change.before, change.after), []).append(change.index)
    for (before, after), indices in sorted(kinds.items(), key=lambda item: -len(item[1])):
        message = "{task}: changed from {before} to {after} ({count:,}): {indices}"
        words = {"before": verdict_text(before), "after": verdict_text(after)}
        yield tr(message, task=task.name, count=len(indices), indices=_listed(indices, limit), **words)


def verdict_text(verdict: str) -> str:
    """The verdict on an answer in the user's language."""
    words = {
        "right": tr("right"), "wrong": tr("wrong"), "unparsed": tr("unparsed"), "unjudged": tr("no right or wrong"),
        "error": tr("error"),
    }  # fmt: skip
    return words[verdict]


def legend() -> str:
    """How to read the table."""
    message = (
        "B − A with its 95 % interval, on the examples that are in both. p is corrected by Holm's method, for the main "
        "metrics of all tasks together and for the further metrics together; tied: p ≥ {level}."
    )
    return tr(message, level=LEVEL)


def save_diff(folder: Path, comparison: Comparison) -> list[Path]:
    """Write `diff.md` and `diff.json` with every changed example to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = (to_markdown(comparison), to_json(comparison))
    for name, text in zip(FILES, texts, strict=True):
        with atomic_file(folder / name, "w") as file:
            file.write(text)
    return [folder / name for name in FILES]


def to_markdown(comparison: Comparison) -> str:
    """The table and the notes, which list every example."""
    every = sum(len(task.changes) + len(task.unpaired) for task in comparison.tasks)
    lines = [f"# {tr('Comparison of two evaluations')}", "", f"A: `{comparison.first}`  ", f"B: `{comparison.second}`"]
    lines += ["", _line(_header()), "|---|---" + "|---:" * (len(_header()) - 2) + "|"]
    lines += [_line(cells) for cells in [*map(_cells, comparison.differences), *_not_compared(comparison)]]
    lines += ["", legend(), "", *(f"* {note}" for note in notes(comparison, every)), ""]
    return "\n".join(lines)


def to_json(comparison: Comparison) -> str:
    """Everything; the values of a setting that differs are a list of two."""
    body: dict[str, Any] = dataclasses.asdict(comparison)
    body |= {"first": str(comparison.first), "second": str(comparison.second)}
    for row, each in zip(body["differences"], comparison.differences, strict=True):
        row |= {"difference": each.difference, "tied": each.is_tied}
    return json_text(body, indent=1) + "\n"


def _header() -> list[str]:
    names = [tr("task"), tr("metric"), "A", "B", "B − A", tr("95 % interval")]
    return [*names, "p", tr("result"), tr("examples"), tr("test")]


def _cells(each: Difference) -> list[str]:
    result = tr("tied") if each.is_tied else tr("B is higher") if each.difference > 0 else tr("B is lower")
    return [
        each.task,
        tr("{metric} (mean)", metric=each.metric) if each.is_mean else each.metric,
        f"{each.first:.4g}",
        f"{each.second:.4g}",
        f"{each.difference:+.3g}",
        f"{each.low:+.3g} – {each.high:+.3g}",
        f"{each.corrected_p:.2g}",
        result,
        f"{each.num_examples:,}",
        {"McNemar": tr("McNemar"), "sign permutation": tr("sign permutation")}[each.test],
    ]


def _not_compared(comparison: Comparison) -> Iterator[list[str]]:
    """A row for each task that has no example in common."""
    for task in comparison.tasks:
        if not task.num_pairs:
            yield [task.name, *"–" * 6, tr("not compared"), "0", ""]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _both(first: Any, second: Any) -> dict[str, str]:
    return {"first": _short(first), "second": _short(second)}


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= MAX_VALUE_LEN else f"{text[:MAX_VALUE_LEN]}…"


def _grouped(unpaired: dict[int, str]) -> dict[str, list[int]]:
    reasons: dict[str, list[int]] = {reason: [] for reason, _ in Counter(unpaired.values()).most_common()}
    for index, reason in unpaired.items():
        reasons[reason].append(index)
    return reasons


def _listed(indices: Sequence[int], limit: int) -> str:
    shown = ", ".join(map(str, indices[:limit]))
    return f"{shown} …" if len(indices) > limit else shown
