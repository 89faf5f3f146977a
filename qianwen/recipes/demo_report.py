"""What a demo has to tell: some lines after each stage, and one page at the end. Both only read the run's folder."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.table import Table

from qianwen.eval.metrics import Estimate, last_number
from qianwen.eval.report import load_metrics
from qianwen.eval.tasks.questions import majority
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import cpu_name
from qianwen.runtime.files import RunFolder, read_jsonl
from qianwen.runtime.language import tr
from qianwen.runtime.log import console, read_metrics
from qianwen.runtime.page import Cell, Page, new_axes

Rows = tuple[list[str], list[list[Cell]]]
NUM_SHOWN = 3  # questions of each kind


def print_stage(run: RunFolder, name: str) -> None:
    """What the stage made and learned, on the console."""
    for part in PARTS.get(name, ()):
        if told := part(run.path):
            print_told(told)
    console.print(tr("{seconds:.0f} s", seconds=run.record["seconds"][name]), style="dim")


def print_told(told: Rows | str) -> None:
    """A sentence or a table, on the console."""
    console.print(told if isinstance(told, str) else _console_table(*told))


def write_report(run: RunFolder) -> Path:
    """`report.html` in the run's folder."""
    root, page = run.path, Page(tr("From raw text to a chat"))
    page.headline(_headline(run))
    page.paragraph(
        tr("Every number is of text and questions that no stage learned from. Machine: {cpu}.", cpu=cpu_name())
    )
    for stage, title in TITLES.items():
        page.section(tr(title))
        if figure := FIGURES.get(stage):
            page.figure(*figure(root))
        for part in PARTS[stage]:
            told = part(root)
            if isinstance(told, str):
                page.paragraph(told)
            elif told:
                page.table(*told)
    page.section(tr("Do it again"))
    page.text(json.dumps(run.config, indent=1, ensure_ascii=False))
    page.write(root / "report.html")
    return root / "report.html"


# ---- text and vocabulary ----------------------------------------------------------------------------------------


def sources(root: Path) -> Rows | None:
    """Where the text comes from; nothing where it was a folder of the user's."""
    if not (root / "sources").exists():
        return None
    facts = _facts(root / "sources")
    rows: list[list[Cell]] = [
        [one["title"], one["licence"], one["num_documents"], one["num_bytes"] / 1e6, one["sha256"][:12]]
        for one in facts["sources"]
    ]
    for name, reason in facts["missing"].items():
        rows.append([tr("{name}: left out, {reason}", name=name, reason=reason), None, None, None, None])
    return [tr("source"), tr("licence"), tr("documents"), "MB", "sha256"], rows


def corpora(root: Path) -> Rows:
    """What of it is learned from, and what is held out."""
    counts = _facts(root / "text")
    rows: list[list[Cell]] = []
    for name, learned in counts["train"].items():
        held_out = counts["held_out"].get(name, {"documents": 0, "bytes": 0})
        rows.append(
            [name, learned["documents"], learned["bytes"] / 1e6, held_out["documents"], held_out["bytes"] / 1e6]
        )
    return [tr("corpus"), tr("documents"), "MB", tr("held out"), "MB "], rows


def text_told(root: Path) -> str:
    counts = _facts(root / "text")
    left_out = ", ".join(f"{reason}: {count}" for reason, count in counts["rejected"].items()) or tr("nothing")
    return tr(
        "{file} ({size:,} bytes) holds what nothing learns from. Left out: {left_out}. Derived from the text: "
        "{derived}; from its held-out part {questions} questions. {repeated} held-out questions were asked in training "
        "too and are not counted; {sums} held-out sums stand in the text.",
        file=root / "text" / "held_out.txt",
        size=counts["held_out_bytes"],
        left_out=left_out,
        derived=_counted(counts["dialogues"]),
        questions=_counted(counts["questions"]),
        repeated=counts["asked_before"],
        sums=counts["sums_in_text"],
    )


def packing(root: Path) -> Rows:
    facts = _facts(root / "tokenizer")
    return [tr("held-out text of"), tr("bytes per token")], [
        [name, each] for name, each in facts["bytes_per_token"].items()
    ]


def vocabulary_told(root: Path) -> str:
    facts = _facts(root / "tokenizer")
    return tr(
        "{size:,} tokens, learned in {seconds:.1f} s. A text as the model sees it: {tokens}",
        size=facts["vocab_size"],
        seconds=facts["seconds"],
        tokens=" ".join(f"[{token}]" for token in facts["tokens"]).replace("\n", "\\n"),
    )


# ---- training ---------------------------------------------------------------------------------------------------


def training_told(stage: str) -> Callable[[Path], str]:
    """What one of the two training runs was, in a sentence."""

    def told(root: Path) -> str:
        run, rows = RunFolder.open(root / stage), read_metrics(root / stage / "metrics.jsonl")
        shape = QwenConfig(**json.loads((root / "pretrain" / "run.json").read_text())["config"]["model"])
        with torch.device("meta"):
            num_parameters = sum(parameter.numel() for parameter in Qwen(shape).parameters())
        return tr(
            "{parameters:.2f} million parameters, {steps:,} steps of up to {tokens:,} tokens, {speed:,} tokens a "
            "second: loss {first:.2f} → {last:.2f}.",
            parameters=num_parameters / 1e6,
            steps=rows[-1]["step"],
            tokens=run.config["loop"]["sequences_per_step"] * run.config["seq_len"],
            speed=round(sum(row["tokens_per_second"] for row in rows[1:]) / max(1, len(rows) - 1)),
            first=rows[0]["loss"],
            last=rows[-1]["loss"],
        )

    return told


def loss_figure(stage: str) -> Callable[[Path], tuple[Any, str]]:
    """The loss of a training run, and of held-out text where it was measured."""

    def figure(root: Path) -> tuple[Any, str]:
        rows = read_metrics(root / stage / "metrics.jsonl")
        drawing, (axes,) = new_axes()
        for name, label in (("loss", tr("training")), ("held_out_sample", tr("held out"))):
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label)
        axes.set_xlabel(tr("step"))
        axes.set_ylabel(tr("loss, nats per token"))
        axes.legend()
        return drawing, tr("Loss over {steps:,} steps", steps=rows[-1]["step"])

    return figure


# ---- what was measured ------------------------------------------------------------------------------------------


def compression(root: Path) -> Rows:
    return [tr("who"), tr("bits per byte")], [[name, round(value, 3)] for name, value in _compression(root)]


def compression_figure(root: Path) -> tuple[Any, str]:
    drawing, (axes,) = new_axes(height=2.6)
    names, values = zip(*_compression(root), strict=True)
    bars = axes.barh(names, values, height=0.62)
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.set_xlabel(tr("bits per byte of the held-out file: less is better"))
    axes.grid(axis="y", visible=False)
    return drawing, tr("How well the held-out file is predicted, beside what compressors make of it")


def _compression(root: Path) -> list[tuple[str, float]]:
    """Bits per byte of the held-out file, the least last."""
    found = _metrics(root, "before")["bits_per_byte"].value
    values = _facts(root / "before")["baselines"] | {tr("the pretrained model"): found}
    return sorted(values.items(), key=lambda item: -item[1])


def by_corpus(root: Path) -> Rows:
    """The model's bits per byte on each corpus of the held-out text."""
    rows: list[list[Cell]] = []
    for name, found in _metrics(root, "before").items():
        if corpus := name.partition("/")[2]:
            rows.append([corpus, found.value, f"{found.low:.2f} – {found.high:.2f}", found.num_examples])
    return [tr("held-out text of"), tr("bits per byte"), tr("95 % interval"), tr("documents")], rows


def samples(root: Path) -> Rows:
    return [tr("The pretrained model goes on")], [[sample] for sample in _facts(root / "before")["samples"]]


def questions(stage: str) -> Callable[[Path], Rows]:
    """What the held-out questions found, before and, where it is there, after fine-tuning."""

    def table(root: Path) -> Rows:
        measured = [_metrics(root, name, "questions") for name in ("before", "after")[: 1 + (stage == "after")]]
        rows: list[list[Cell]] = []
        for name, found in measured[-1].items():
            shown = [f"{each[name].value:.1%}" for each in measured]
            rows.append([METRICS.get(name, name), *shown, f"{found.low:.1%} – {found.high:.1%}", found.num_examples])
        return [tr("held-out questions"), tr("before"), tr("after")][: 1 + len(measured)] + [
            tr("95 % interval"),
            tr("asked"),
        ], rows

    return table


def majority_told(root: Path) -> str:
    learned, asked = (
        [last_number(row["messages"][-1]["content"]) for row in _dialogues(root, part)]
        for part in ("train", "held_out")
    )
    return tr(
        "Always giving the commonest result of arithmetic would be right in {share:.1%}.",
        share=majority(learned, asked),
    )


def conversation(root: Path) -> Rows:
    """Some of the held-out questions with the answers before and after, and what the text said."""
    before, after = ({one["asked"][-1]: one for one in _answered(root, name)} for name in ("before", "after"))
    shown: dict[str, int] = {}
    rows: list[list[Cell]] = []
    for question, one in after.items():
        kind = one["facts"]["kind"]
        shown[kind] = shown.get(kind, 0) + 1
        if shown[kind] <= NUM_SHOWN:
            rows.append([question, before[question]["text"], one["text"], one["facts"]["target"]])
    return [tr("question"), tr("before"), tr("after"), tr("the text says")], rows


# ---- putting it together ----------------------------------------------------------------------------------------

METRICS = {
    "opens": "answer opens as it should",
    "stops": "answer ends by itself",
    "opens_and_stops": "both",
    "exact_match": "arithmetic is right",
}
TITLES = {
    "text": "Text",
    "tokenizer": "Vocabulary",
    "pretrain": "Pretraining",
    "before": "What the pretrained model knows",
    "sft": "Supervised fine-tuning",
    "after": "What the chat model knows",
}
PARTS: dict[str, tuple[Callable[[Path], Rows | str | None], ...]] = {
    "text": (sources, corpora, text_told),
    "tokenizer": (packing, vocabulary_told),
    "pretrain": (training_told("pretrain"),),
    "before": (compression, by_corpus, samples, questions("before")),
    "sft": (training_told("sft"),),
    "after": (questions("after"), majority_told, conversation),
}
FIGURES = {"pretrain": loss_figure("pretrain"), "before": compression_figure, "sft": loss_figure("sft")}


def _headline(run: RunFolder) -> dict[str, Cell]:
    before, after = (_metrics(run.path, name, "questions") for name in ("before", "after"))
    found = _metrics(run.path, "before")["bits_per_byte"].value
    xz = _facts(run.path / "before")["baselines"]["xz -9"]

    def change(metric: str) -> str:
        return f"{before[metric].value:.0%} → {after[metric].value:.0%}"

    return {
        tr("bits per byte, xz -9: {xz:.2f}", xz=xz): f"{found:.2f}",
        tr("answers that open well and stop"): change("opens_and_stops"),
        tr("arithmetic right"): change("exact_match"),
        tr("minutes"): round(sum(run.record["seconds"].values()) / 60, 1),
        tr("GB of memory at most"): round(run.record["peak_memory_bytes"] / 1e9, 2),
    }


def _console_table(header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for i, name in enumerate(header):
        is_number = all(isinstance(row[i], (int, float)) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_shown(cell) for cell in row))
    return table


def _shown(cell: Cell) -> str:
    return (
        ""
        if cell is None
        else f"{cell:,}"
        if isinstance(cell, int)
        else f"{cell:.3g}"
        if isinstance(cell, float)
        else cell
    )


def _facts(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))


def _metrics(root: Path, stage: str, task: str = "text") -> dict[str, Estimate]:
    return load_metrics(root / stage / "results.json")[task]


def _answered(root: Path, stage: str) -> list[dict[str, Any]]:
    saved = json.loads((root / stage / "results.json").read_text(encoding="utf-8"))
    return next(one["answered"] for one in saved["results"] if one["task"] == "questions")


def _dialogues(root: Path, part: str) -> list[dict[str, Any]]:
    return [row for row in read_jsonl(root / "text" / "dialogues" / f"{part}.jsonl") if row["kind"] == "arithmetic"]


def _counted(counts: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in counts.items())
