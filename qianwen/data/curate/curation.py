"""Curation: filter any input into training documents, in resumable stages over parts; inputs are verified.

    work/screened/00000/  read → repair → language → personal data → rules → keys       (filter_part.py, part by part)
    work/duplicates/  exact, same address, near: which document is kept for which (corpus_duplicates.py, over all parts)
    work/benchmarks/         word n-grams of the benchmark texts                            (decontamination.py)
    work/finished/00000/     documents left after scorers and benchmarks               (finish_part.py, part by part)
    documents/               the result: Parquet, one file a part, with a manifest
    dropped/  counts.json  contamination.json  report.html  README.md

The same command continues after a kill. The bytes of the result depend only on input and settings, not on
interruptions, cores or machines. `work/` may be deleted at the end.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from qianwen.data import worker_pool
from qianwen.data.curate import shingler
from qianwen.data.curate.corpus import folder_hash, stage
from qianwen.data.curate.corpus_duplicates import write_duplicates
from qianwen.data.curate.dataset_card import curation_card
from qianwen.data.curate.decontamination import Benchmarks, benchmark_texts
from qianwen.data.curate.filter_part import CurateConfig, ScreenSettings, ScreenTask, screen_part
from qianwen.data.curate.finish_part import FinishSettings, FinishTask, finish_part
from qianwen.data.curate.input_parts import Slice, plan
from qianwen.data.curate.quality_scorer import Scorer
from qianwen.data.curate.totals import total_counts
from qianwen.data.file_listing import is_remote
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_file, atomic_folder, lock
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr


def curate(
    inputs: Sequence[str],
    output: Path,
    config: CurateConfig,
    *,
    benchmarks: Sequence[str] = (),
    blocked: Iterable[str] = (),
    scorers: Sequence[Scorer] = (),
    workers: int | None = None,
) -> dict[str, Any]:
    """Fill `output` and return the counts. Raises DataError when nothing can be read, or nothing is left."""
    _check_apart(inputs, output)
    texts = list(benchmark_texts(benchmarks))
    for scorer in scorers:
        scorer.load()  # as with benchmarks, what is wrong is said before hours of reading
    work = output / "work"
    with lock(work):
        parts = plan(list(inputs))
        shingler.available()  # compiled once here, not by every worker
        screened = _screened(parts, work, config, blocked, workers)
        hashes = [folder_hash(folder) for folder in screened]
        duplicates, tests = work / "duplicates", work / "benchmarks"
        settings = {"screened": hashes, "near": asdict(config.near)}
        stage(duplicates, settings, lambda folder: write_duplicates(screened, folder, config.near, workers))
        stage(tests, {"texts": _texts_hash(texts)}, lambda folder: _index(texts, folder))
        passed = _filters(config, scorers, texts)
        settings = FinishSettings(
            passed=passed,
            scorers=tuple(scorers),
            models=tuple(scorer.model_hash() for scorer in scorers),
            duplicates=folder_hash(duplicates),
            benchmarks=folder_hash(tests),
        )
        finished = _finished(screened, hashes, duplicates, tests, settings, workers)
        counts = _publish(screened, finished, duplicates, tests, output)
        curation_card(output, counts, passed)
        _sweep(work)
    if not counts["kept"]["documents"]:
        raise DataError(tr("{output}: all documents were dropped; see counts.json for the reasons", output=output))
    return counts


def _check_apart(inputs: Sequence[str], output: Path) -> None:
    """Raises ConfigError when the result would be read as input by the next run."""
    for path in inputs:
        if not is_remote(path) and output.resolve().is_relative_to(Path(path).resolve()):
            message = tr(
                "the output folder {output} is inside the input {path}; choose another output folder",
                output=output,
                path=path,
            )
            raise ConfigError(message)


def _screened(
    parts: list[list[Slice]], work: Path, config: CurateConfig, blocked: Iterable[str], workers: int | None
) -> list[Path]:
    folders = [work / "screened" / f"{number:05d}" for number in range(len(parts))]
    hosts = tuple(sorted(blocked))
    tasks = [
        ScreenTask(
            settings=ScreenSettings(config=config, blocked=hosts, slices=tuple(part)),
            folder=folder,
            scratch=work / "remote",
        )
        for folder, part in zip(folders, parts, strict=True)
    ]
    results = progress(worker_pool.each(screen_part, tasks, workers), len(tasks), tr("reading and filtering"))
    if not sum(results):
        raise DataError(tr("the input contains no documents"))
    return folders


# ---- benchmarks --------------------------------------------------------------------------------------------------


def _texts_hash(texts: list[tuple[str, str, str]]) -> str:
    return hashlib.sha256(json.dumps(texts, ensure_ascii=True).encode("ascii")).hexdigest()


def _index(texts: list[tuple[str, str, str]], folder: Path) -> None:
    benchmarks = Benchmarks.from_texts(texts)
    benchmarks.save(folder)
    (folder / "names.json").write_text(json.dumps(benchmarks.names, ensure_ascii=False), encoding="utf-8")
    (folder / "counts.json").write_text(json.dumps({"texts": len(texts), "too_short": benchmarks.too_short}))


# ---- the last pass -----------------------------------------------------------------------------------------------


def _filters(config: CurateConfig, scorers: Sequence[Scorer], texts: Sequence[Any]) -> str:
    """What a document of the result has passed, to be kept with it."""
    filters = [*config.rules, f"duplicates {config.near.threshold:g}"]
    filters += [f"{scorer.name} {scorer.threshold:g}" for scorer in scorers]
    if config.identify:
        filters.insert(0, f"language {config.min_probability:g}")
    return ", ".join([*filters, f"{len(texts)} benchmark texts"] if texts else filters)


def _finished(
    screened: list[Path],
    hashes: list[str],
    duplicates: Path,
    tests: Path,
    settings: FinishSettings,
    workers: int | None,
) -> list[Path]:
    folders = [duplicates.parent / "finished" / folder.name for folder in screened]
    tasks = [
        FinishTask(
            settings=replace(settings, screened=screened_hash),
            number=number,
            screened=before,
            duplicates=duplicates,
            benchmarks=tests,
            folder=after,
        )
        for number, (before, after, screened_hash) in enumerate(zip(screened, folders, hashes, strict=True))
    ]
    for _ in progress(worker_pool.each(finish_part, tasks, workers), len(tasks), tr("writing shards")):
        pass
    return folders


# ---- the result --------------------------------------------------------------------------------------------------


def _publish(screened: list[Path], finished: list[Path], duplicates: Path, tests: Path, output: Path) -> dict[str, Any]:
    counts, contamination = total_counts(screened, finished, duplicates, tests)
    for kind, suffix in (("documents", "parquet"), ("dropped", "jsonl.zst")):
        with atomic_folder(output / kind) as folder:
            for part in finished:
                _link(part / f"{kind}.{suffix}", folder / f"part-{part.name}.{suffix}")
            if kind == "dropped":
                for part in screened:
                    _link(part / "dropped.jsonl.zst", folder / f"screened-{part.name}.jsonl.zst")
    for name, body in (("counts.json", counts), ("contamination.json", contamination)):
        with atomic_file(output / name, "w") as file:
            json.dump(body, file, indent=1, ensure_ascii=False)
    return counts


def _link(source: Path, target: Path) -> None:
    """The same bytes under another name, without a copy where the file system can do that."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _sweep(work: Path) -> None:
    """Remove what killed runs left: the lock is ours, and workers do not outlive their run."""
    for leftover in work.rglob(".*.tmp"):
        shutil.rmtree(leftover) if leftover.is_dir() else leftover.unlink(missing_ok=True)
    shutil.rmtree(work / "remote", ignore_errors=True)
