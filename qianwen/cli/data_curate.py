"""`qianwen data curate` and `qianwen data report`: filter text for training, and report what was dropped."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.cells import set_cell_size

from qianwen.data import worker_pool
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Curate:
    """Extract, filter, deduplicate and decontaminate text. The same command continues an interrupted one."""

    inputs: tyro.conf.Positional[tuple[str, ...]]
    """Input folders or files, also s3:// and hf://. Formats: JSON lines, Parquet, text, Markdown, code, HTML,
    WARC, WET, also packed; the content of a file decides, not its name."""
    output: str
    """Output folder for documents/, dropped/, README.md (the dataset card), counts.json and report.html."""
    benchmarks: tuple[str, ...] = ()
    """Benchmark files or folders (JSON lines, CSV, text); documents that contain their texts are dropped."""
    filter: str = ""
    """Folder filter/ written by `qianwen data train-filter`; documents that its ensemble rejects are dropped."""
    rules: tuple[str, ...] = ("gopher", "c4", "fineweb", "chinese", "code", "text")
    """Rule sets to apply; `--rules` without a value: none."""
    languages: tuple[str, ...] = ()
    """Keep only prose in these languages (en zh zh-Hant …); by default all."""
    blocklist: str = ""
    """File of hosts and URLs to drop, one per line: example.com, example.com/private."""
    allow_licence: tuple[str, ...] = ()
    """Keep only documents that state one of these licences (SPDX identifiers); by default all."""
    keep_personal_data: bool = False
    """Do not replace e-mail addresses, phone numbers, identity numbers and card numbers."""
    threshold: float = 0.8
    """Jaccard similarity above which two texts are near duplicates, from 0 to 1."""
    workers: int = 0
    """Number of processes; 0: one per core."""
    ray: str = ""
    """Address of a Ray cluster, or `local` to start one; by default no Ray, only processes of this machine."""


@dataclass(frozen=True)
class Report:
    """Write report.html of a curation: dropped documents by stage and reason, with samples."""

    folder: tyro.conf.Positional[str]
    """Output folder of `qianwen data curate`."""


def curate(options: Curate) -> int:
    """Check the options, run the curation, write the report."""
    import daft  # noqa: F401  first, so that a missing package fails before any work is done

    from qianwen.data.curate.curation import curate as run
    from qianwen.data.curate.curation_report import write_report
    from qianwen.data.documents.exclusions import blocklist
    from qianwen.data.filters.vote import as_scorer

    config = _config(options)
    blocked = blocklist(Path(options.blocklist)) if options.blocklist else ()
    scorers = [as_scorer(options.filter)] if options.filter else []
    worker_pool.use(options.ray)
    output = Path(options.output)
    counts = run(
        options.inputs, output, config, benchmarks=options.benchmarks, blocked=blocked, scorers=scorers,
        workers=options.workers or None,
    )  # fmt: skip
    write_report(output)
    _print_funnel(counts)
    console.print(tr("dropped documents with reasons: {path}", path=output / "report.html"))
    console.print(tr("next: {command}", command=f"qianwen pretrain tiny --name mine --data {output / 'documents'}"))
    return 0


def _config(options: Curate) -> Any:
    """The CurateConfig of the options. Raises ConfigError for a value that is not valid."""
    from qianwen.data.curate.filter_part import CurateConfig
    from qianwen.data.curate.minhash import MinHashConfig
    from qianwen.data.curate.rules import RULES
    from qianwen.runtime.errors import ConfigError

    if unknown := set(options.rules) - RULES.keys():
        raise ConfigError(
            tr("there is no rule set {name}; choose one of {known}", name=min(unknown), known=", ".join(RULES))
        )
    if not 0 < options.threshold <= 1:
        raise ConfigError(
            tr("--threshold {value} is not a similarity: give a number above 0 and at most 1", value=options.threshold)
        )
    if options.workers < 0:
        raise ConfigError(tr("--workers {value}: give 0 for all cores, or how many processes", value=options.workers))
    return CurateConfig(
        rules=options.rules,
        languages=options.languages,
        licences=options.allow_licence,
        scrub=not options.keep_personal_data,
        near=MinHashConfig(threshold=options.threshold),
    )


def _print_funnel(counts: dict) -> None:
    from qianwen.data.documents.drop_reasons import reason_text, stage_text

    console.print(tr("{documents:,} document{documents:plural} read", documents=counts["read"]))
    for stage, reasons in counts["dropped"].items():
        for reason, count in reasons.items():
            where = set_cell_size(stage_text(stage), 11)
            console.print(f"  - {count:>10,}  {where} {reason_text(reason)}", style="yellow", markup=False)
    kept = counts["kept"]
    console.print(
        tr(
            "{documents:,} document{documents:plural} kept, {bytes:,} bytes",
            documents=kept["documents"],
            bytes=kept["bytes"],
        )
    )


def report(options: Report) -> int:
    """Regenerate the report."""
    from qianwen.data.curate.curation_report import write_report

    console.print(tr("written: {path}", path=write_report(Path(options.folder))))
    return 0
