"""The tables of the documents with our rows under the published ones: `qianwen eval MODEL --table memo|blog|models`.

    document_tables   the tables as data, which the page and the files below are made from
    tasks_of_table    the tasks that fill them
    to_markdown, to_json, console_tables   three forms of them

A cell of ours is a measured value with its interval, or a dash with the reason: the task was not run, its data is
missing, no task measures it. The row of a model has the number of examples of each value, because a run may have had a
limit. What our protocols have in common with the published ones and what not is in the settings of each task.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Group
from rich.table import Table as ConsoleTable
from rich.text import Text

from qianwen.eval.metrics import Estimate
from qianwen.eval.published import Column, Figure, PublishedTable, published_tables
from qianwen.eval.results import Results
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

DASH = "–"
OF_QWEN = ("Qwen-", "+ ")  # names of rows of Qwen models; "+ " is the row before with one change


@dataclass(frozen=True)
class Cell:
    """`text` is the figure as printed; of ours also the interval in the unit of the column, and the examples."""

    text: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    num_examples: int = 0
    reason: str = ""  # why there is no value


@dataclass(frozen=True)
class Row:
    """One model. `kind`: `rival`, `qwen` for published figures of Qwen, `ours` for a model that was measured here."""

    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Table:
    """A table of a document with its published rows, then ours."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]


def tasks_of_table(document: str) -> list[str]:
    """The names of the tasks that the tables of a document need, each once."""
    columns = [column for table in published_tables(document) for column in table.columns]
    return list(dict.fromkeys(task for column in columns for task in column.tasks))


def document_tables(document: str, results: Sequence[Results], missing: Mapping[str, str] | None = None) -> list[Table]:
    """The tables of a document with a row for each of `results`. `missing` has tasks that could not run, and why."""
    return [_table(table, results, missing or {}) for table in published_tables(document)]


def _table(table: PublishedTable, results: Sequence[Results], missing: Mapping[str, str]) -> Table:
    rows = []
    for name, figures in table.rows:
        cells = tuple(_published(figure, column) for figure, column in zip(figures, table.columns, strict=True))
        rows.append(Row(name, "qwen" if name.startswith(OF_QWEN) else "rival", cells))
    for each in results:
        cells = tuple(_ours(column, each, missing) for column in table.columns)
        rows.append(Row(model_name(each), "ours", cells))
    return Table(table.name, table.title, tuple(column.name for column in table.columns), tuple(rows))


def _published(figure: Figure, column: Column) -> Cell:
    if figure is None:
        return Cell(DASH, reason=tr("not published"))
    if isinstance(figure, str):
        return Cell(figure)
    return Cell(f"{figure:,.{column.digits}f}", figure)


def _ours(column: Column, results: Results, missing: Mapping[str, str]) -> Cell:
    if not column.tasks:
        return Cell(DASH, reason=_need(column.needs))
    estimates = []
    for task in column.tasks:
        if task not in results.tasks:
            return Cell(DASH, reason=f"{task}: {missing.get(task) or tr('not run')}")
        if column.metric not in results.tasks[task].metrics:
            return Cell(DASH, reason=tr("{task} has no examples for it in this run", task=task))
        estimates.append(results.tasks[task].metrics[column.metric])
    mean = mean_of(estimates)
    value, low, high = (column.scale * number for number in mean[:3])
    text = f"{value:.{column.digits}f} [{low:.{column.digits}f}, {high:.{column.digits}f}]"
    return Cell(text, value, low, high, mean.num_examples)


def mean_of(estimates: Sequence[Estimate]) -> Estimate:
    """The mean of independent values; each side of its interval is the root of the sum of squares of theirs."""
    number = len(estimates)
    value = sum(each.value for each in estimates) / number
    below = math.sqrt(sum((each.value - each.low) ** 2 for each in estimates)) / number
    above = math.sqrt(sum((each.high - each.value) ** 2 for each in estimates)) / number
    return Estimate(value, value - below, value + above, sum(each.num_examples for each in estimates))


def _need(needs: str) -> str:
    """The sentence for a code of `published.toml`."""
    return {
        "": tr("a property of the model, not a measurement"),
        "ceval-server": tr("only C-Eval's server knows the answers; send it the file that the task ceval-test writes"),
        "few-shot-chat": tr("no task here puts worked examples to a chat model for this benchmark"),
        "harness": tr("no task here measures it; lm-eval does, with `qianwen eval MODEL --harness TASK`"),
        "long-context": tr("no task here measures long contexts yet"),
        "plan": tr("`qianwen plan` computes it"),
        "tools": tr("no task here measures the use of tools yet"),
    }[needs]


def model_name(results: Results) -> str:
    """The model and the bits of its weights, as its row is named. Of a model behind a URL the bits are not known."""
    name = Path(str(results.settings.get("model", results.folder))).name
    if "bits" not in results.settings:
        return name
    bits = results.settings["bits"]
    return tr("{name} (floats)", name=name) if bits is None else tr("{name} ({bits} bits)", name=name, bits=bits)


# ---- forms ----------------------------------------------------------------------------------------------------------


def to_markdown(document: str, tables: Sequence[Table]) -> str:
    """All tables. Rows of Qwen are bold; under each table the examples of our values, and the reasons of our dashes."""
    parts = [f"# {tr('Tables of the documents')}: {document}\n"]
    for table in tables:
        lines = ["", *(_markdown_row([tr("model"), *table.columns]), "|---" + "|---:" * len(table.columns) + "|")]
        for row in table.rows:
            name = row.name if row.kind == "rival" else f"**{row.name}**"
            lines.append(_markdown_row([name, *(cell.text for cell in row.cells)]))
        notes = [f"* {note}" for note in notes_of(table)]
        parts.append("\n".join([f"## {table.title}", *lines, "", *notes, ""]))
    return "\n".join(parts)


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def notes_of(table: Table) -> list[str]:
    """For each of our rows: the number of examples of its values, and each reason for a dash with its columns."""
    notes = []
    for row in table.rows:
        if row.kind != "ours":
            continue
        counts: dict[str, list[str]] = {}
        for column, cell in zip(table.columns, row.cells, strict=True):
            note = cell.reason or tr("{count:,} examples", count=cell.num_examples)
            counts.setdefault(note, []).append(column)
        notes += [f"{row.name}, {', '.join(columns)}: {note}" for note, columns in counts.items()]
    return notes


def to_json(document: str, tables: Sequence[Table]) -> str:
    """All tables with every field."""
    body = {"document": document, "tables": [asdict(table) for table in tables]}
    return json.dumps(body, ensure_ascii=False, indent=1) + "\n"


def console_tables(tables: Sequence[Table]) -> Iterator[Group]:
    """The tables for a terminal, each with its title and notes."""
    for table in tables:
        grid = ConsoleTable(box=None)
        grid.add_column(tr("model"))
        for column in table.columns:
            grid.add_column(Text(column), justify="right")
        for row in table.rows:
            style = {"ours": "bold green", "qwen": "bold"}.get(row.kind, "")
            grid.add_row(Text(row.name), *(Text(cell.text) for cell in row.cells), style=style)
        yield Group(Text(table.title, style="bold"), grid, Text("\n".join(notes_of(table)), style="dim"), "")


def save_tables(folder: Path, document: str, tables: Sequence[Table]) -> list[Path]:
    """Write `table_DOCUMENT.md` and `table_DOCUMENT.json` to the results folder."""
    paths = []
    for suffix, text in ((".md", to_markdown(document, tables)), (".json", to_json(document, tables))):
        paths.append(folder / f"table_{document}{suffix}")
        with atomic_file(paths[-1], "w") as file:
            file.write(text)
    return paths
