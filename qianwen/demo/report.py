"""A demo's findings where they are read: some lines after each stage, and one page at the end."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from qianwen.demo import findings as found
from qianwen.demo.findings import Figure, Rows
from qianwen.runtime.files import RunFolder
from qianwen.runtime.log import console
from qianwen.runtime.page import Cell, Page
from qianwen.runtime.processor import cpu_name
from qianwen.runtime.translation import tr

FINDINGS: dict[str, tuple[Callable[[Path], Rows | str | None], ...]] = {
    "text": (found.sources, found.corpora, found.pairs, found.text_told),
    "tokenizer": (found.packing, found.vocabulary_told),
    "pretrain": (found.training_told("pretrain"),),
    "before": (found.compression, found.by_corpus, found.samples, found.questions("before")),
    "sft": (found.training_told("sft"),),
    "after": (found.questions("before", "after"), found.majority_told, found.answers),
    "report": (),
}
FIGURES: dict[str, Callable[[Path], Figure]] = {
    "pretrain": found.loss_figure("pretrain"),
    "before": found.compression_figure,
    "sft": found.loss_figure("sft"),
}


def print_stage(run: RunFolder, stage: str) -> None:
    """What the stage made and learned, on the console."""
    for finding in FINDINGS[stage]:
        told = finding(run.path)
        if told is not None:
            console.print(told if isinstance(told, str) else _table(*told), markup=False)
    console.print(tr("{seconds:.0f} s", seconds=run.record["seconds"][stage]), style="dim")


def print_conversation(root: Path) -> None:
    """The chat model's answers to some held-out questions, as a chat."""
    for one in found.conversation(root):
        console.print(Text("\n› ", style="bold").append(one["question"]))
        console.print(one["after"], markup=False)


def write_report(run: RunFolder) -> None:
    """`report.html` in the run's folder."""
    root, page = run.path, Page(tr("From raw text to a chat"))
    page.headline(_headline(run))
    page.paragraph(tr("All results are measured on text and questions that no stage was trained on."))
    titles = found.titles()
    rows: list[list[Cell]] = [[titles[stage], seconds] for stage, seconds in run.record["seconds"].items()]
    page.table([tr("stage, on {cpu}", cpu=cpu_name()), tr("seconds")], rows)
    for stage, findings in FINDINGS.items():
        if findings:
            page.section(titles[stage])
        if stage in FIGURES:
            page.figure(*FIGURES[stage](root))
        for finding in findings:
            told = finding(root)
            if isinstance(told, str):
                page.paragraph(told)
            elif told:
                page.table(*told)
    page.section(tr("All settings"))
    page.text(json.dumps(run.config, indent=1, ensure_ascii=False))
    page.write(root / "report.html")


def _headline(run: RunFolder) -> dict[str, Cell]:
    before, after = (found.metrics(run.path, stage, "questions") for stage in ("before", "after"))
    values = {name: value for name, value, _ in found.bits_per_byte(run.path)}
    model = found.metrics(run.path, "before", "text")["bits_per_byte"].value

    def change(metric: str) -> str:
        return f"{before[metric].value:.0%} → {after[metric].value:.0%}"

    return {
        tr("bits per byte (xz -9: {xz:.2f})", xz=values["xz -9"]): f"{model:.2f}",
        tr("answers in the required format that end with the end token"): change("opens_and_stops"),
        tr("arithmetic correct"): change("exact_match"),
        tr("minutes"): f"{sum(run.record['seconds'].values()) / 60:.1f}",
        tr("GB of peak memory"): f"{run.record['peak_memory_bytes'] / 1e9:.2f}",
    }


def _table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(header):
        is_number = all(isinstance(row[i], (int, float)) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    return table


def _shown(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if isinstance(cell, float) else cell
