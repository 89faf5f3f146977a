"""`qianwen data`: fetch named corpora, curate documents, and build a training corpus from a folder of text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.cells import set_cell_size

from qianwen.cli.arguments import parse_subcommand
from qianwen.cli.data_ablate import Ablate, Mix, ablate, mix
from qianwen.cli.data_curate import Curate, Report, curate, report
from qianwen.cli.data_filter import TrainFilter, train_filter
from qianwen.cli.data_label import LabelData, label_data
from qianwen.cli.data_reject import Reject, reject
from qianwen.cli.data_safety import Safety, safety
from qianwen.cli.data_select import Select, select
from qianwen.cli.data_self_instruct import SelfInstruct, self_instruct
from qianwen.cli.data_service import Service, service
from qianwen.cli.data_system_prompts import SystemPromptData, system_prompt_data
from qianwen.cli.data_trace import Trace, trace
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Fetch:
    """Download a named corpus and write it as JSON lines, with the licence, size and hash of each source."""

    name: tyro.conf.Positional[str] = "quickstart"
    """The corpus: quickstart, open (all sources), or one source: python-stdlib, wikipedia-en, wikipedia-fr,
    wikipedia-es, many-languages, state-of-the-union, moby-dick, chinese-poetry."""
    out: str = ""
    """Output folder; by default data/NAME."""
    allow_licence: tuple[str, ...] = ()
    """Download only sources under these licences (SPDX identifiers); by default all."""


@dataclass(frozen=True)
class Build:
    """Build a training corpus: read text, drop duplicates, split off a held-out set, and list files that cannot be
    read."""

    inputs: tyro.conf.Positional[str]
    """Input folder or file: text, Markdown, code, JSON lines (.gz, .zst), Parquet."""
    out: tyro.conf.Positional[str]
    """Output folder for train/, held_out/ and rejected.jsonl."""
    held_out: float = 0.03
    """Fraction of the documents that is held out from training."""


def data(argv: list[str]) -> int:
    """Run the chosen subcommand."""
    commands: dict[str, Any] = {
        "fetch": Fetch, "curate": Curate, "report": Report, "trace": Trace, "build": Build, "train-filter": TrainFilter,
        "reject": Reject, "safety": Safety, "service": Service, "self-instruct": SelfInstruct,
        "system-prompts": SystemPromptData, "select": Select, "label": LabelData, "ablate": Ablate, "mix": Mix,
    }  # fmt: skip
    options = parse_subcommand(commands, "qianwen data", argv)
    run = {
        Fetch: _fetch, Curate: curate, Report: report, Trace: trace, Build: _build, TrainFilter: train_filter,
        Reject: reject, Safety: safety, Service: service, SelfInstruct: self_instruct,
        SystemPromptData: system_prompt_data, Select: select, LabelData: label_data, Ablate: ablate, Mix: mix,
    }  # fmt: skip
    return run[type(options)](options)


def _fetch(options: Fetch) -> int:
    from qianwen.data.curate.dataset_card import fetched_card
    from qianwen.data.documents.sources import fetch, named
    from qianwen.runtime.files import atomic_folder

    folder = Path(options.out or Path("data") / options.name)
    with atomic_folder(folder) as temporary:
        fetched, missing = fetch(named(options.name, options.allow_licence), temporary)
        fetched_card(temporary, options.name, fetched)
    for source in fetched:
        console.print(f"[bold]{source.name}[/bold]  {source.title}")
        facts = tr(
            "  {licence}, {documents:,} document{documents:plural}, {bytes:,} bytes, sha256 {sha256}",
            licence=source.licence,
            documents=source.num_documents,
            bytes=source.num_bytes,
            sha256=source.sha256,
        )
        console.print(facts)
    for name, reason in missing.items():
        console.print(tr("{name} was skipped: {reason}", name=name, reason=reason), style="yellow")
    console.print(tr("written to {folder}; next: {command}", folder=folder, command=f"qianwen demo --data {folder}"))
    return 0


def _build(options: Build) -> int:
    from qianwen.data.curate.corpus import CorpusConfig, build_corpus
    from qianwen.data.documents.drop_reasons import reason_text
    from qianwen.runtime.files import atomic_folder

    with atomic_folder(options.out) as temporary:
        counts = build_corpus(options.inputs, temporary, CorpusConfig(held_out=options.held_out))
    for part, name in (("train", tr("training")), ("held_out", tr("held out"))):
        for corpus, sizes in counts[part].items():
            console.print(f"{set_cell_size(name, 9)} {corpus:<24} {sizes['documents']:>10,} {sizes['bytes']:>14,}")
    for reason, count in counts["rejected"].items():
        console.print(tr("skipped: {count:,} × {reason}", count=count, reason=reason_text(reason)), style="yellow")
    console.print(tr("list of skipped files with reasons: {path}", path=Path(options.out) / "rejected.jsonl"))
    return 0
