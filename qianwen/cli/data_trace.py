"""`qianwen data trace`: the documents that one step of a run learned from."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.table import Table

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

BEGINS = 60  # characters of a span that are shown


@dataclass(frozen=True)
class Trace:
    """Show which documents an optimizer step of a pretraining run saw, where they are from and what they passed."""

    run: tyro.conf.Positional[str]
    """Name or folder of the run."""
    step: int
    """Optimizer step, from 1, as in metrics.jsonl."""
    json: str = ""
    """File to write every span to, one JSON line each."""


def trace(asked: Trace) -> int:
    """Print the spans of the step and the tokens of each source."""
    from qianwen.data.tokens.mixture import is_tokens, open_tokens
    from qianwen.data.tokens.trace import by, trace_step
    from qianwen.runtime.files import RunFolder, write_jsonl
    from qianwen.tokenizer.tokenizer import Tokenizer

    run = RunFolder.open(asked.run)
    if run.record["stage"] != "pretrain":
        raise ConfigError(
            tr("{run} is a {stage} run; only pretraining runs can be traced", run=run.path, stage=run.record["stage"])
        )
    config = run.config
    steps = config["loop"]["steps"]
    if not 1 <= asked.step <= steps:
        raise ConfigError(
            tr("{run} has steps 1 to {steps}; step {step} does not exist", run=run.path, steps=steps, step=asked.step)
        )
    named = Path(config["data"])
    folder = named if is_tokens(named) else run.path / "tokens"
    dataset = open_tokens(folder, config["seq_len"], seed=config["seed"])
    traced = trace_step(dataset, asked.step, config["loop"]["sequences_per_step"])
    tokenizer = Tokenizer.from_folder(config["vocabulary"]) if config["vocabulary"] != "qwen" else Tokenizer.qwen()
    rows: list[dict[str, Any]] = [
        {"sequence": one.sequence, "document": one.document, "start": one.start, "tokens": len(one.ids), **one.origin}
        | {"text": tokenizer.decode(one.ids.tolist())}
        for one in traced
    ]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in (tr("sequence"), tr("source"), tr("language"), tr("licence"), tr("tokens"), tr("begins")):
        table.add_column(heading, overflow="ellipsis", no_wrap=True)
    for row in rows:
        begins = json.dumps(row["text"][:BEGINS], ensure_ascii=False)[1:-1]
        shown = (row["sequence"], row["source"], row["lang"], row["licence"], f"{row['tokens']:,}")
        table.add_row(*map(_plain, shown), _plain(begins))
    console.print(table)
    for (kind, lang, passed), count in by(traced, "kind", "lang", "passed").items():
        through = tr("curated: {filters}", filters=passed) if passed else tr("not curated")
        console.print(_plain(f"{count:>8,}  {kind} {lang}  {through}"))
    if asked.json:
        write_jsonl(asked.json, rows)
        console.print(tr("written: {path}", path=asked.json))
    return 0


def _plain(value: object) -> str:
    """Text of a document is shown, never read as rich's markup."""
    from rich.markup import escape

    return escape(str(value))
