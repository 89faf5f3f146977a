"""`qianwen data trace`: the documents that one training step of a run used."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

BEGINS = 60  # printed characters of a span


@dataclass(frozen=True)
class Trace:
    """Show the documents of one optimizer step of a pretraining run: source, licence and the filters they passed."""

    run: tyro.conf.Positional[str]
    """Name or folder of the pretraining run."""
    step: int
    """Optimizer step as in metrics.jsonl; the first is 1."""
    json: str = ""
    """Also write every span to this file, one JSON line each."""


def _settings(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The settings of a run that tracing needs. Raises CheckpointError if one is missing."""
    for name in ("data", "seq_len", "packed_share", "seed", "vocabulary", "start_from", "loop"):
        if name not in config:
            raise CheckpointError(tr("{path} is damaged: {error}", path=path / "run.json", error=name))
    return config


def trace(options: Trace) -> int:
    """Print the spans of the step and the tokens of each source."""
    from qianwen.checkpoints.load import open_model
    from qianwen.data.tokens.mixture import is_tokens, open_tokens
    from qianwen.data.tokens.trace import tokens_by, trace_step
    from qianwen.runtime.files import RunFolder, write_jsonl
    from qianwen.tokenizer.tokenizer import Tokenizer

    run = RunFolder.open(options.run)
    if run.record["stage"] not in ("pretrain", "extend"):
        raise ConfigError(
            tr("{run} is a {stage} run; only pretraining runs can be traced", run=run.path, stage=run.record["stage"])
        )
    config = _settings(run.config.get("pretrain", run.config), run.path)
    steps = config["loop"]["steps"]
    if not 1 <= options.step <= steps:
        raise ConfigError(
            tr("{run} has steps 1 to {steps}; step {step} does not exist", run=run.path, steps=steps, step=options.step)
        )
    named = Path(config["data"])
    folder = named if is_tokens(named) else run.path / "tokens"
    dataset = open_tokens(folder, config["seq_len"], seed=config["seed"], packed_share=config["packed_share"])
    traced = trace_step(dataset, options.step, config["loop"]["sequences_per_step"])
    if config["start_from"]:
        tokenizer = open_model(config["start_from"]).tokenizer
    else:
        tokenizer = Tokenizer.from_folder(config["vocabulary"]) if config["vocabulary"] != "qwen" else Tokenizer.qwen()
    rows: list[dict[str, Any]] = [
        {
            "sequence": span.sequence,
            "document": span.document,
            "start": span.start,
            "tokens": len(span.ids),
            **span.origin,
        }
        | {"text": tokenizer.decode(span.ids.tolist())}
        for span in traced
    ]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in (tr("sequence"), tr("source"), tr("language"), tr("licence"), tr("tokens"), tr("begins")):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for row in rows:
        begins = json.dumps(row["text"][:BEGINS], ensure_ascii=False)[1:-1]
        cells = (row["sequence"], row["source"], row["lang"], row["licence"], f"{row['tokens']:,}")
        table.add_row(*map(_plain, cells), _plain(begins))
    console.print(table)
    for (kind, lang, passed), count in tokens_by(traced, "kind", "lang", "passed").items():
        through = tr("curated: {filters}", filters=passed) if passed else tr("not curated")
        console.print(_plain(f"{count:>8,}  {kind} {lang}  {through}"))
    if options.json:
        write_jsonl(options.json, rows)
        console.print(tr("written: {path}", path=options.json))
    return 0


def _plain(value: object) -> str:
    """Escape text of a document: rich must not read it as markup."""
    from rich.markup import escape

    return escape(str(value))
