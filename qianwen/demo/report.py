"""Output of the findings of a demo: lines on the console after each stage, and one HTML page at the end."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from qianwen.demo import findings
from qianwen.demo.findings import Figure, Rows
from qianwen.runtime.files import RunFolder
from qianwen.runtime.log import console
from qianwen.runtime.page import Cell, Page
from qianwen.runtime.processor import cpu_name
from qianwen.runtime.translation import tr

FINDINGS: dict[str, tuple[Callable[[Path], Rows | str | None], ...]] = {
    "text": (findings.sources, findings.corpora, findings.pairs, findings.text_summary),
    "tokenizer": (findings.packing, findings.vocabulary_summary),
    "pretrain": (findings.training_summary("pretrain"),),
    "before": (findings.compression, findings.by_corpus, findings.samples, findings.questions("before")),
    "sft": (findings.training_summary("sft"),),
    "after": (findings.questions("before", "after"), findings.majority_summary, findings.answers),
    "report": (findings.evaluation,),
}
FIGURES: dict[str, Callable[[Path], Figure]] = {
    "pretrain": findings.loss_figure("pretrain"),
    "before": findings.compression_figure,
    "sft": findings.loss_figure("sft"),
}


def print_stage(run: RunFolder, stage: str) -> None:
    """Print the findings of a stage on the console."""
    for function in FINDINGS[stage]:
        finding = function(run.path)
        if finding is not None:
            console.print(finding if isinstance(finding, str) else _table(*finding), markup=False)
    console.print(tr("{seconds:.0f} s", seconds=run.record["seconds"][stage]), style="dim")


def print_conversation(root: Path) -> None:
    """The chat model's answers to some held-out questions, as a chat."""
    for row in findings.conversation(root):
        console.print(Text("\n› ", style="bold").append(row["question"]))
        console.print(row["after"], markup=False)


def write_report(run: RunFolder) -> None:
    """`report.html` in the run's folder."""
    root, page = run.path, Page(tr("From raw text to a chat"))
    page.headline(_headline(run))
    page.paragraph(tr("All results are measured on text and questions that no stage was trained on."))
    titles = findings.titles()
    rows: list[list[Cell]] = [[titles[stage], seconds] for stage, seconds in run.record["seconds"].items()]
    page.table([tr("stage, on {cpu}", cpu=cpu_name()), tr("seconds")], rows)
    for stage, functions in FINDINGS.items():
        if functions:
            page.section(titles[stage])
        if stage in FIGURES:
            page.figure(*FIGURES[stage](root))
        for function in functions:
            finding = function(root)
            if isinstance(finding, str):
                page.paragraph(finding)
            elif finding:
                page.table(*finding)
    page.section(tr("All settings"))
    page.text(json.dumps(run.config, indent=1, ensure_ascii=False))
    page.write(root / "report.html")


def _headline(run: RunFolder) -> dict[str, Cell]:
    before, after = (findings.metrics(run.path, stage, "questions") for stage in ("before", "after"))
    values = {name: value for name, value, _ in findings.bits_per_byte(run.path)}
    model = findings.metrics(run.path, "before", "text")["bits_per_byte"].value

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
        table.add_row(*(Text(_cell_text(cell)) for cell in row))
    return table


def _cell_text(cell: Cell) -> str:
    if cell is None:
        return ""
    return f"{cell:,}" if isinstance(cell, int) else f"{cell:.4g}" if isinstance(cell, float) else cell
