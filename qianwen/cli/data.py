"""`qianwen data`: fetch named corpora, curate any input, and make a training corpus from a folder of text."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from qianwen.runtime.language import tr
from qianwen.runtime.log import console


@dataclass(frozen=True)
class Fetch:
    """Fetch a named corpus and write it as JSON lines, with the licence, size and hash of each source."""

    name: tyro.conf.Positional[str] = "quickstart"
    """quickstart, or one source: python-stdlib, wikipedia-en, wikipedia-fr, wikipedia-es, many-languages."""
    out: str = ""
    """Folder to write to; by default data/NAME."""
    allow_licence: tuple[str, ...] = ()
    """Only sources under these licences (SPDX); by default all."""


@dataclass(frozen=True)
class Build:
    """Read a folder of any text, drop duplicates, hold a part out; what cannot be read is set aside with its reason."""

    inputs: tyro.conf.Positional[str]
    """Folder or file: text, Markdown, code, JSON lines (.gz, .zst), Parquet."""
    out: tyro.conf.Positional[str]
    """Folder to write train/, held_out/ and rejected.jsonl to."""
    held_out: float = 0.03
    """Share of the documents that nothing learns from."""


@dataclass(frozen=True)
class Curate:
    """Read, extract, filter, deduplicate and decontaminate; the same command goes on where a killed one stopped."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Folders or files, s3:// and hf:// too: JSON lines, Parquet (.gz, .zst), text, Markdown, code, HTML, WARC, WET."""
    output: str
    """Folder for documents/, dropped/, counts.json and report.html."""
    benchmarks: tuple[str, ...] = ()
    """Files or folders of tests (JSON lines, CSV, text) whose texts must not be in the result."""
    rules: tuple[str, ...] = ("gopher", "c4", "fineweb", "chinese", "code", "text")
    """Sets of rules that may drop a document; `--rules` with nothing after it: none."""
    languages: tuple[str, ...] = ()
    """Only prose in these languages (en zh zh-Hant …); by default all."""
    blocklist: str = ""
    """File of hosts, one a line, whose pages are left out."""
    keep_personal_data: bool = False
    """Leave e-mail addresses, phone numbers, ids and cards in the text."""
    threshold: float = 0.8
    """Likeness from which two texts count as near duplicates."""
    workers: int = 0
    """Processes; 0: as many as there are cores."""
    ray: str = ""
    """Address of a Ray cluster to run on, or `local`; by default this machine."""


@dataclass(frozen=True)
class Report:
    """Write report.html of a curation: what was dropped where and why, with samples to read."""

    folder: tyro.conf.Positional[str]
    """The output of `qianwen data curate`."""


def data(argv: list[str]) -> int:
    """Run the step that is asked for."""
    steps = (
        Annotated[Fetch, tyro.conf.subcommand("fetch")]
        | Annotated[Curate, tyro.conf.subcommand("curate")]
        | Annotated[Report, tyro.conf.subcommand("report")]
        | Annotated[Build, tyro.conf.subcommand("build")]
    )
    asked = tyro.cli(steps, prog="qianwen data", args=argv)
    if isinstance(asked, Fetch):
        return _fetch(asked)
    if isinstance(asked, Curate):
        return _curate(asked)
    return _report(asked) if isinstance(asked, Report) else _build(asked)


def _fetch(asked: Fetch) -> int:
    from qianwen.data.sources import fetch, named
    from qianwen.runtime.files import atomic_folder

    folder = Path(asked.out or Path("data") / asked.name)
    with atomic_folder(folder) as temporary:
        fetched, missing = fetch(named(asked.name, asked.allow_licence), temporary)
    for one in fetched:
        console.print(f"[bold]{one.name}[/bold]  {one.title}")
        facts = tr(
            "  {licence}, {documents:,} documents, {bytes:,} bytes, sha256 {sha256}",
            licence=one.licence,
            documents=one.num_documents,
            bytes=one.num_bytes,
            sha256=one.sha256,
        )
        console.print(facts)
    for name, reason in missing.items():
        console.print(tr("{name} was left out: {reason}", name=name, reason=reason), style="yellow")
    console.print(tr("written to {folder}; next: {command}", folder=folder, command=f"qianwen demo --data {folder}"))
    return 0


def _build(asked: Build) -> int:
    from qianwen.data.pipeline import CorpusConfig, build_corpus
    from qianwen.runtime.files import atomic_folder

    with atomic_folder(asked.out) as temporary:
        counts = build_corpus(asked.inputs, temporary, CorpusConfig(held_out=asked.held_out))
    for part in ("train", "held_out"):
        for corpus, found in counts[part].items():
            console.print(f"{part:<9} {corpus:<24} {found['documents']:>10,} {found['bytes']:>14,}")
    for reason, count in counts["rejected"].items():
        console.print(tr("left out: {count:,} × {reason}", count=count, reason=reason), style="yellow")
    console.print(tr("what was left out, and why: {path}", path=Path(asked.out) / "rejected.jsonl"))
    return 0


def _curate(asked: Curate) -> int:
    import daft  # noqa: F401  first, so that what is missing is said before anything is done

    from qianwen.data import engine
    from qianwen.data.curate import curate
    from qianwen.data.curate_report import write_report
    from qianwen.data.minhash import MinHashConfig
    from qianwen.data.rules import RULES
    from qianwen.data.screen import CurateConfig
    from qianwen.runtime.errors import ConfigError

    if strange := set(asked.rules) - RULES.keys():
        raise ConfigError(
            tr("no set of rules is called {name}: there are {known}", name=min(strange), known=", ".join(RULES))
        )
    if not 0 < asked.threshold <= 1:
        raise ConfigError(
            tr("--threshold {value} is no likeness: give a number above 0, up to 1", value=asked.threshold)
        )
    config = CurateConfig(
        rules=asked.rules,
        languages=asked.languages,
        scrub=not asked.keep_personal_data,
        near=MinHashConfig(threshold=asked.threshold),
    )
    blocked = Path(asked.blocklist).read_text(encoding="utf-8").split() if asked.blocklist else []
    engine.use(asked.ray)
    output = Path(asked.output)
    counts = curate(
        asked.inputs, output, config, benchmarks=asked.benchmarks, blocked=blocked, workers=asked.workers or None
    )
    write_report(output)
    _print_funnel(counts)
    console.print(tr("what was dropped, and why: {path}", path=output / "report.html"))
    console.print(tr("next: {command}", command=f"qianwen pretrain tiny --name mine --data {output / 'documents'}"))
    return 0


def _print_funnel(counts: dict) -> None:
    console.print(tr("{documents:,} documents read", documents=counts["read"]))
    for stage, reasons in counts["dropped"].items():
        for reason, count in reasons.items():
            console.print(f"  - {count:>10,}  {stage:<11} {reason}", style="yellow")
    kept = counts["kept"]
    console.print(tr("{documents:,} documents kept, {bytes:,} bytes", documents=kept["documents"], bytes=kept["bytes"]))


def _report(asked: Report) -> int:
    from qianwen.data.curate_report import write_report

    console.print(tr("written: {path}", path=write_report(Path(asked.folder))))
    return 0
