"""The findings of each stage of a demo, read from the run folder: sentences, tables and figures.

Nothing is measured here. The console and the page (`report.py`) print the same findings.
"""

import itertools
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from qianwen.chat.answers import last_number
from qianwen.data.documents.drop_reasons import reason_text
from qianwen.eval.metrics import Estimate
from qianwen.eval.results import TaskResults, load_results
from qianwen.eval.tasks.questions import majority
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import RunFolder, read_jsonl
from qianwen.runtime.log import displayed_metrics
from qianwen.runtime.page import PALETTE, Cell, new_axes
from qianwen.runtime.translation import tr

Rows = tuple[list[str], list[list[Cell]]]
Figure = tuple[Any, str]  # the drawing and its caption
EVALUATION = "evaluation"  # the folder of results in that of a stage
NUM_QUESTIONS = 3  # questions of each kind
MAX_ANSWER_LEN = 160  # characters of an answer


def titles() -> dict[str, str]:
    """Title of each stage, in order."""
    return {
        "text": tr("Text"),
        "tokenizer": tr("Vocabulary"),
        "pretrain": tr("Pretraining"),
        "before": tr("What the pretrained model knows"),
        "sft": tr("Supervised fine-tuning"),
        "after": tr("What the chat model knows"),
        "report": tr("All measurements"),
    }


# ---- text and vocabulary ----------------------------------------------------------------------------------------


def sources(root: Path) -> Rows | None:
    """The sources of the quickstart corpus; None if the user gave a folder."""
    if not (root / "sources").exists():
        return None
    fetched = facts(root / "sources")
    rows: list[list[Cell]] = [
        [each["title"], each["licence"], each["num_documents"], each["num_bytes"] / 1e6, each["sha256"][:12]]
        for each in fetched["sources"]
    ]
    for name, reason in fetched["missing"].items():
        rows.append([tr("{name}: skipped, {reason}", name=name, reason=reason), None, None, None, None])
    return [tr("source"), tr("licence"), tr("documents"), "MB", "sha256"], rows


def corpora(root: Path) -> Rows:
    """Sizes of the training and held-out text, by corpus."""
    counts = facts(root / "text")
    rows: list[list[Cell]] = []
    for name in sorted(counts["train"].keys() | counts["held_out"].keys()):
        learned, held_out = (counts[part].get(name, {}) for part in ("train", "held_out"))
        row = [each.get(key, 0) for each in (learned, held_out) for key in ("documents", "bytes")]
        rows.append([name, *row])
    return [tr("corpus"), tr("documents"), tr("bytes"), tr("held out"), tr("bytes held out")], rows


def pairs(root: Path) -> Rows:
    """Number of derived questions by kind, with a held-out example of each kind."""
    counts, example = facts(root / "text"), {}
    for row in read_jsonl(root / "text" / "dialogues" / "held_out.jsonl"):
        example.setdefault(row["kind"], row["messages"][0]["content"])
    rows: list[list[Cell]] = [
        [kind, example.get(kind), learned, counts["questions"].get(kind, 0)]
        for kind, learned in counts["dialogues"].items()
    ]
    return [tr("kind of question"), tr("held-out question"), tr("for fine-tuning"), tr("held out")], rows


def text_summary(root: Path) -> str:
    counts = facts(root / "text")
    reasons = Counter(counts["rejected"])
    for dropped in counts["curated"]["dropped"].values():
        reasons.update(dropped)
    left_out = ", ".join(f"{reason_text(reason)}: {count}" for reason, count in reasons.most_common()) or tr("nothing")
    return tr(
        "{file} ({size:,} bytes) is held out: no stage trains on it. Dropped during curation: "
        "{left_out}. Personal data removed: {personal}. {repeated} held-out questions also "
        "occur in training and are not counted; {sums} held-out sums occur in the text.",
        file=root / "text" / "held_out.txt",
        size=counts["held_out_bytes"],
        left_out=left_out,
        personal=sum(counts["curated"]["personal"].values()),
        repeated=counts["asked_before"],
        sums=counts["sums_in_text"],
    )


def packing(root: Path) -> Rows:
    ratios = facts(root / "tokenizer")["bytes_per_token"]
    return [tr("held-out text of"), tr("bytes per token")], [[name, each] for name, each in ratios.items()]


def vocabulary_summary(root: Path) -> str:
    vocabulary = facts(root / "tokenizer")
    return tr(
        "{size:,} tokens, trained in {seconds:.1f} s. Tokens of a held-out text: {tokens}",
        size=vocabulary["vocab_size"],
        seconds=vocabulary["seconds"],
        tokens="|".join(vocabulary["tokens"]).replace("\n", "⏎"),
    )


# ---- training ---------------------------------------------------------------------------------------------------


def training_summary(stage: str) -> Callable[[Path], str]:
    """One sentence about a training run: size, steps, speed and loss."""

    def summary(root: Path) -> str:
        run, rows = RunFolder.open(root / stage), displayed_metrics(root / stage / "metrics.jsonl")
        speeds = [row["tokens_per_second"] for row in rows[1:]] or [0]
        return tr(
            "{parameters:.2f} million parameters, {steps:,} steps of up to {tokens:,} tokens, {speed:,} tokens per "
            "second; loss {first:.2f} → {last:.2f} nats per token.",
            parameters=_num_parameters(root) / 1e6,
            steps=rows[-1]["step"],
            tokens=run.config["loop"]["sequences_per_step"] * run.config["seq_len"],
            speed=round(sum(speeds) / len(speeds)),
            first=rows[0]["loss"],
            last=rows[-1]["loss"],
        )

    return summary


def loss_figure(stage: str) -> Callable[[Path], Figure]:
    """The training loss of a run, and its held-out loss if that was measured."""

    def figure(root: Path) -> Figure:
        rows = displayed_metrics(root / stage / "metrics.jsonl")
        drawing, (axes,) = new_axes()
        for name, label in (("loss", tr("training")), ("held_out_sample", tr("held out"))):
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points, strict=True), label=label, marker="o" if name != "loss" else None)
        axes.set_xlabel(tr("step"))
        axes.set_ylabel(tr("loss (nats per token)"))
        axes.legend()
        return drawing, tr("Loss over {steps:,} steps", steps=rows[-1]["step"])

    return figure


def _num_parameters(root: Path) -> int:
    with torch.device("meta"):
        model = Qwen(QwenConfig(**RunFolder.open(root / "pretrain").config["model"]))
    return sum(parameter.numel() for parameter in model.parameters())


# ---- what was measured ------------------------------------------------------------------------------------------


def bits_per_byte(root: Path) -> list[tuple[str, float, bool]]:
    """(name, bits per byte of the held-out file, whether it is the model), the best first."""
    baselines = [(name, value, False) for name, value in facts(root / "before")["baselines"].items()]
    model = metrics(root, "before", "text")["bits_per_byte"].value
    return sorted([*baselines, (tr("the model"), model, True)], key=lambda row: row[1])


def compression(root: Path) -> Rows:
    return [tr("held-out file, predicted by"), tr("bits per byte")], [
        [n, round(v, 3)] for n, v, _ in bits_per_byte(root)
    ]


def compression_figure(root: Path) -> Figure:
    drawing, (axes,) = new_axes(height=2.4)
    names, values, is_model = zip(*reversed(bits_per_byte(root)), strict=True)
    bars = axes.barh(names, values, height=0.62, color=[PALETTE[0] if ours else PALETTE[-1] for ours in is_model])
    axes.bar_label(bars, fmt="%.2f", padding=4)
    axes.set_xlabel(tr("bits per byte of the held-out file (lower is better)"))
    axes.grid(axis="y", visible=False)
    return drawing, tr("Bits per byte of the held-out file, compared with compressors")


def by_corpus(root: Path) -> Rows:
    """The model's bits per byte on each corpus of the held-out text."""
    rows: list[list[Cell]] = []
    for name, bits in metrics(root, "before", "text").items():
        if corpus := name.partition("/")[2]:
            rows.append([corpus, round(bits.value, 3), f"{bits.low:.2f} – {bits.high:.2f}", bits.num_examples])
    return [tr("held-out text of"), tr("bits per byte"), tr("95 % interval"), tr("documents")], rows


def samples(root: Path) -> Rows:
    return [tr("Continuations by the pretrained model")], [[sample] for sample in facts(root / "before")["samples"]]


def questions(*stages: str) -> Callable[[Path], Rows]:
    """Metrics on the held-out questions at one or two stages; the interval is for the last stage."""

    def table(root: Path) -> Rows:
        measured = [metrics(root, stage, "questions") for stage in stages]
        rows: list[list[Cell]] = []
        for name, last in measured[-1].items():
            values = [f"{each[name].value:.1%}" for each in measured]
            rows.append([_metric(name), *values, f"{last.low:.1%} – {last.high:.1%}", last.num_examples])
        called = {"before": tr("before"), "after": tr("after")}
        header = [tr("held-out questions"), *(called[stage] for stage in stages), tr("95 % interval"), tr("questions")]
        return header, rows

    return table


def _metric(name: str) -> str:
    called = {
        "opens": tr("starts in the required format"),
        "stops": tr("ends with the end token"),
        "opens_and_stops": tr("both"),
        "exact_match": tr("arithmetic: correct result"),
    }
    metric, _, kind = name.partition("/")
    return f"{called[metric]}: {kind}" if kind else called[metric]


def majority_summary(root: Path) -> str:
    results = {
        part: [
            last_number(row["messages"][-1]["content"])
            for row in read_jsonl(root / "text" / "dialogues" / f"{part}.jsonl")
            if row["kind"] == "arithmetic"
        ]
        for part in ("train", "held_out")
    }
    share = majority(results["train"], results["held_out"])
    return tr(
        "Always answering with the most frequent arithmetic result would be correct in {share:.1%} of cases.",
        share=share,
    )


def conversation(root: Path) -> list[dict[str, str]]:
    """NUM_QUESTIONS held-out questions of each kind: answers before and after fine-tuning, and the reference."""
    rows: list[dict[str, str]] = []
    before, after = (_results(root, stage, "questions").rows for stage in ("before", "after"))
    kinds = sorted(zip(before, after, strict=True), key=lambda pair: pair[1]["facts"]["kind"])
    for _, group in itertools.groupby(kinds, key=lambda pair: pair[1]["facts"]["kind"]):
        for old, new in itertools.islice(group, NUM_QUESTIONS):
            texts = {"before": _reply(old), "after": _reply(new), "text": new["facts"]["target"]}
            rows.append({"question": new["prompt"][-1]} | {name: _short(text) for name, text in texts.items()})
    return rows


def answers(root: Path) -> Rows:
    header = [tr("question"), tr("before"), tr("after"), tr("reference text")]
    return header, [list(row.values()) for row in conversation(root)]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MAX_ANSWER_LEN else f"{line[:MAX_ANSWER_LEN]}…"


def _reply(row: dict[str, Any]) -> str:
    return row.get("answer", {}).get("text", "")


def evaluation(root: Path) -> Rows:
    """The results of all tasks before and after fine-tuning; the interval is for the last measurement."""
    before, after = (load_results(root / stage / EVALUATION).tasks for stage in ("before", "after"))
    rows: list[list[Cell]] = []
    for task, results in after.items():
        for name, last in results.metrics.items():
            first = before[task].metrics[name]
            interval = f"{last.low:.4g} – {last.high:.4g}"
            rows.append(
                [task, name, float(f"{first.value:.4g}"), float(f"{last.value:.4g}"), interval, last.num_examples]
            )
    header = [tr("task"), tr("metric"), tr("before"), tr("after"), tr("95 % interval"), tr("examples")]
    return header, rows


def _results(root: Path, stage: str, task: str) -> TaskResults:
    return load_results(root / stage / EVALUATION).tasks[task]


def metrics(root: Path, stage: str, task: str) -> dict[str, Estimate]:
    """The metrics of a task at a stage."""
    return _results(root, stage, task).metrics


def facts(folder: Path) -> dict[str, Any]:
    """The facts.json of a stage."""
    return json.loads((folder / "facts.json").read_text(encoding="utf-8"))
