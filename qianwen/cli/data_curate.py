"""`qianwen data curate` and `qianwen data report`: any text into documents worth training on, and what was dropped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from qianwen.data import worker_pool
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Curate:
    """Read, extract, filter, deduplicate and decontaminate; the same command goes on where a killed one stopped."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Folders or files, s3:// and hf:// too: JSON lines, Parquet (.gz, .zst), text, Markdown, code, HTML, WARC, WET."""
    output: str
    """Folder for documents/, dropped/, README.md (the dataset card), counts.json and report.html."""
    benchmarks: tuple[str, ...] = ()
    """Files or folders of tests (JSON lines, CSV, text) whose texts must not be in the result."""
    filter: str = ""
    """Folder that `qianwen data train-filter` wrote: what its vote finds not worth keeping is dropped."""
    rules: tuple[str, ...] = ("gopher", "c4", "fineweb", "chinese", "code", "text")
    """Sets of rules that may drop a document; `--rules` with nothing after it: none."""
    languages: tuple[str, ...] = ()
    """Only prose in these languages (en zh zh-Hant …); by default all."""
    blocklist: str = ""
    """File of hosts and URLs, one a line, whose pages are left out: example.com, example.com/private."""
    allow_licence: tuple[str, ...] = ()
    """Only documents that say they are under one of these licences (SPDX); by default all."""
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


def curate(asked: Curate) -> int:
    """Check what is asked, run it, report."""
    import daft  # noqa: F401  first, so that what is missing is said before anything is done

    from qianwen.data.curate.curation import curate as run
    from qianwen.data.curate.curation_report import write_report
    from qianwen.data.documents.extract import blocklist
    from qianwen.data.filters.vote import as_scorer

    config = _config(asked)
    blocked = blocklist(Path(asked.blocklist)) if asked.blocklist else ()
    scorers = [as_scorer(asked.filter)] if asked.filter else []
    worker_pool.use(asked.ray)
    output = Path(asked.output)
    counts = run(
        asked.inputs, output, config, benchmarks=asked.benchmarks, blocked=blocked, scorers=scorers,
        workers=asked.workers or None,
    )  # fmt: skip
    write_report(output)
    _print_funnel(counts)
    console.print(tr("dropped documents with reasons: {path}", path=output / "report.html"))
    console.print(tr("next: {command}", command=f"qianwen pretrain tiny --name mine --data {output / 'documents'}"))
    return 0


def _config(asked: Curate) -> Any:
    """The CurateConfig of what is asked. Raises ConfigError for what cannot be."""
    from qianwen.data.curate.filter_part import CurateConfig
    from qianwen.data.curate.minhash import MinHashConfig
    from qianwen.data.curate.rules import RULES
    from qianwen.runtime.errors import ConfigError

    if strange := set(asked.rules) - RULES.keys():
        raise ConfigError(
            tr("there is no rule set {name}; choose one of {known}", name=min(strange), known=", ".join(RULES))
        )
    if not 0 < asked.threshold <= 1:
        raise ConfigError(
            tr("--threshold {value} is not a similarity: give a number above 0 and at most 1", value=asked.threshold)
        )
    if asked.workers < 0:
        raise ConfigError(tr("--workers {value}: give 0 for all cores, or how many processes", value=asked.workers))
    return CurateConfig(
        rules=asked.rules,
        languages=asked.languages,
        licences=asked.allow_licence,
        scrub=not asked.keep_personal_data,
        near=MinHashConfig(threshold=asked.threshold),
    )


def _print_funnel(counts: dict) -> None:
    from qianwen.data.documents.drop_reasons import reason_text

    console.print(tr("{documents:,} documents read", documents=counts["read"]))
    for stage, reasons in counts["dropped"].items():
        for reason, count in reasons.items():
            console.print(f"  - {count:>10,}  {stage:<11} {reason_text(reason)}", style="yellow")
    kept = counts["kept"]
    console.print(tr("{documents:,} documents kept, {bytes:,} bytes", documents=kept["documents"], bytes=kept["bytes"]))


def report(asked: Report) -> int:
    """Write the page again."""
    from qianwen.data.curate.curation_report import write_report

    console.print(tr("written: {path}", path=write_report(Path(asked.folder))))
    return 0
