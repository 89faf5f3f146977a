"""From any input to documents worth training on: stages over parts, each resumable, each verified before it is read.

    work/screened/00000/  read → repair → language → personal data → rules → keys       (filter_part.py, part by part)
    work/duplicates/  exact, same address, near: which document stays for which     (deduplication.py, over all parts)
    work/benchmarks/         the runs of words that benchmark texts hold                   (decontamination.py)
    work/finished/00000/     what is left, without what scorers or benchmarks exclude  (finish_part.py, part by part)
    documents/               the result: Parquet, one file a part, with a manifest
    dropped/  counts.json  contamination.json  report.html  README.md

The same command goes on where a killed one stopped; the bytes of the result depend on input and settings alone, not on
kills, cores or machines. `work/` may be deleted when all is done.
"""

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.data import arrow_columns, worker_pool
from qianwen.data.curate import shingler
from qianwen.data.curate.corpus import folder_hash, stage
from qianwen.data.curate.dataset_card import curation_card
from qianwen.data.curate.decontamination import Benchmarks, benchmark_texts
from qianwen.data.curate.deduplication import Keys, duplicates
from qianwen.data.curate.filter_part import KEY_COLUMNS, CurateConfig, screen_part
from qianwen.data.curate.finish_part import finish_part, total
from qianwen.data.curate.input_parts import plan
from qianwen.data.curate.minhash import MinHashConfig, shingle_sets
from qianwen.data.curate.quality_scorer import Scorer
from qianwen.data.text_arrays import Texts, by_size
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
        screened = _screened(parts, work, config, sorted(blocked), workers)
        hashes = [folder_hash(folder) for folder in screened]
        marks = work / "duplicates"
        settings = {"screened": hashes, "near": dataclasses.asdict(config.near)}
        stage(marks, settings, lambda folder: _find_duplicates(screened, folder, config.near, workers))
        tests = work / "benchmarks"
        stage(tests, {"texts": _texts_hash(texts)}, lambda folder: _index(texts, folder))
        passed = _filters(config, scorers, texts)
        settings = {"passed": passed, "scorers": [dataclasses.asdict(scorer) for scorer in scorers]}
        settings |= {"models": [scorer.mark() for scorer in scorers]}
        finished = _finished(screened, hashes, marks, tests, settings, workers)
        counts = _publish(screened, finished, marks, tests, output)
        curation_card(output, counts, passed)
        _sweep(work)
    if not counts["kept"]["documents"]:
        raise DataError(tr("{output}: nothing is left; see counts.json for the reasons", output=output))
    return counts


def _check_apart(inputs: Sequence[str], output: Path) -> None:
    """Raises ConfigError when the result would be read as input by the next run."""
    for path in inputs:
        if not worker_pool.is_remote(path) and output.resolve().is_relative_to(Path(path).resolve()):
            message = tr(
                "{output} lies inside {path}, which is read: name a folder elsewhere", output=output, path=path
            )
            raise ConfigError(message)


def _screened(parts: list, work: Path, config: CurateConfig, blocked: list[str], workers: int | None) -> list[Path]:
    folders = [work / "screened" / f"{number:05d}" for number in range(len(parts))]
    settings = {"config": dataclasses.asdict(config), "blocked": blocked}
    tasks = [
        {"folder": str(folder), "scratch": str(work / "remote"), "settings": settings | {"slices": part}}
        for folder, part in zip(folders, parts, strict=True)
    ]
    results = progress(worker_pool.each(screen_part, tasks, workers), len(tasks), tr("reading and filtering"))
    if not sum(counts["read"] for counts in results):
        raise DataError(tr("there is no document to read"))
    return folders


# ---- duplicates, over all parts ----------------------------------------------------------------------------------


def _find_duplicates(screened: list[Path], folder: Path, config: MinHashConfig, workers: int | None) -> None:
    """`stays.npy` and `how.npy` of all documents, part after part, and `sources.parquet` of those kept for others."""
    shards = [path / "documents.parquet" for path in screened]
    rows = np.array([parquet.read_metadata(shard).num_rows for shard in shards], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(rows)])
    names = (*KEY_COLUMNS, "num_words")
    known = dict(zip(names, _columns(shards, names), strict=True))
    prints = np.stack([known["print_low"], known["print_high"]], axis=1)
    keys = Keys(prints, known["text_hash"], known["address"], known["word_key"], known["num_words"].astype(np.int64))

    def sets(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _sets_of(chosen, shards, first, folder / "sets", config, workers)

    found = duplicates(keys, _Bands(shards), sets, config)
    np.save(folder / "first.npy", first)
    np.save(folder / "stays.npy", found.stays)
    np.save(folder / "how.npy", found.how)
    shutil.rmtree(folder / "sets", ignore_errors=True)
    kept_for_others = np.unique(found.stays[found.how != 0])
    sources = arrow_columns.of_texts(_taken(shards, first, kept_for_others, "source"))
    table = pa.Table.from_arrays([arrow_columns.of_numbers(kept_for_others), sources], ["document", "source"])
    parquet.write_table(table, folder / "sources.parquet")
    counts = {"candidates": found.num_candidates, "pairs": found.num_pairs}
    (folder / "counts.json").write_text(json.dumps(counts))


def _columns(shards: list[Path], names: Sequence[str]) -> list[np.ndarray]:
    """Some columns of all parts."""
    tables = [arrow_columns.read(shard, names) for shard in shards]
    return [np.concatenate([arrow_columns.values(table[name]) for table in tables]) for name in names]


class _Bands:
    """The bands of all documents, one at a time, which are read a few together."""

    def __init__(self, shards: list[Path]) -> None:
        self.shards, self.first, self.some = shards, 0, []

    def __call__(self, number: int, together: int = 5) -> np.ndarray:
        if not self.first <= number < self.first + len(self.some):
            self.some = []
            known = parquet.read_schema(self.shards[0]).names
            names = [f"band_{one}" for one in range(number, number + together)]
            self.first, self.some = number, _columns(self.shards, [name for name in names if name in known])
        return self.some[number - self.first]


def _taken(shards: list[Path], first: np.ndarray, chosen: np.ndarray, name: str) -> list[Any]:
    """A column's values of some documents, which are sorted."""
    values: list[Any] = []
    for number, shard in enumerate(shards):
        inside = chosen[np.searchsorted(chosen, first[number]) : np.searchsorted(chosen, first[number + 1])]
        if len(inside):
            values += (
                arrow_columns.read(shard, [name])[name]
                .take(arrow_columns.of_numbers(inside - first[number]))
                .to_pylist()
            )
    return values


def _sets_of(
    chosen: np.ndarray, shards: list[Path], first: np.ndarray, folder: Path, config: MinHashConfig, workers: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shingle sets of some documents, on the disk and mapped into memory; where each begins there, in the order the
    documents are given in, and how large it is.
    """
    folder.mkdir(exist_ok=True)
    order = np.sort(chosen)
    tasks = []
    for number, shard in enumerate(shards):
        inside = order[np.searchsorted(order, first[number]) : np.searchsorted(order, first[number + 1])]
        if len(inside):
            np.save(folder / f"rows-{number}.npy", inside - first[number])
            near = dataclasses.asdict(config)
            tasks.append({"shard": str(shard), "folder": str(folder), "number": number, "near": near})
    for _ in progress(worker_pool.each(shingle_part, tasks, workers), len(tasks), tr("comparing candidates")):
        pass
    sizes = np.concatenate([np.load(folder / f"sizes-{task['number']}.npy") for task in tasks])
    with (folder / "sets").open("wb") as together:
        for task in tasks:
            with (folder / f"values-{task['number']}").open("rb") as values:
                shutil.copyfileobj(values, together, 1 << 20)
    values = np.memmap(folder / "sets", dtype="<u4", mode="r") if sizes.sum() else np.zeros(0, dtype="<u4")
    start = np.cumsum(sizes) - sizes
    place = np.searchsorted(order, chosen)
    return values, start[place], sizes[place]


def shingle_part(task: dict[str, Any]) -> int:
    """Write the shingle sets of the rows asked for; how many rows."""
    folder, number = Path(task["folder"]), task["number"]
    rows, config = np.load(folder / f"rows-{number}.npy"), MinHashConfig(**task["near"])
    sizes = []
    with (folder / f"values-{number}").open("wb") as file:
        for texts in _texts_at(Path(task["shard"]), rows):
            values, counts = shingle_sets(Texts(texts), config)
            values.astype("<u4").tofile(file)
            sizes.append(counts)
    np.save(folder / f"sizes-{number}.npy", np.concatenate(sizes))
    return len(rows)


def _texts_at(shard: Path, rows: np.ndarray) -> Iterable[list[str]]:
    """The texts at some rows, some at a time."""
    begin = 0
    with parquet.ParquetFile(shard) as file:
        for batch in file.iter_batches(batch_size=1024, columns=["text"], use_threads=False):
            inside = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, begin + len(batch))]
            begin += len(batch)
            texts = batch["text"].take(arrow_columns.of_numbers(inside - (begin - len(batch)))).to_pylist()
            yield from by_size(texts)


# ---- benchmarks --------------------------------------------------------------------------------------------------


def _texts_hash(texts: list[tuple[str, str, str]]) -> str:
    return hashlib.sha256(json.dumps(texts, ensure_ascii=True).encode("ascii")).hexdigest()


def _index(texts: list[tuple[str, str, str]], folder: Path) -> None:
    found = Benchmarks.of(texts)
    found.save(folder)
    (folder / "names.json").write_text(json.dumps(found.names, ensure_ascii=False), encoding="utf-8")
    (folder / "counts.json").write_text(json.dumps({"texts": len(texts), "too_short": found.too_short}))


# ---- the last pass -----------------------------------------------------------------------------------------------


def _filters(config: CurateConfig, scorers: Sequence[Scorer], texts: Sequence[Any]) -> str:
    """What a document of the result has passed, to be kept with it."""
    filters = [*config.rules, f"duplicates {config.near.threshold:g}"]
    filters += [f"{scorer.name} {scorer.least:g}" for scorer in scorers]
    if config.identify:
        filters.insert(0, f"language {config.min_probability:g}")
    return ", ".join([*filters, f"{len(texts)} benchmark texts"] if texts else filters)


def _finished(
    screened: list[Path], hashes: list[str], marks: Path, tests: Path, settings: dict[str, Any], workers: int | None
) -> list[Path]:
    folders = [marks.parent / "finished" / folder.name for folder in screened]
    common = settings | {"duplicates": folder_hash(marks), "benchmarks": folder_hash(tests)}
    tasks = [
        {
            "screened": str(before), "folder": str(after), "number": number, "marks": str(marks), "tests": str(tests),
            "settings": common | {"screened": mark},
        }
        for number, (before, after, mark) in enumerate(zip(screened, folders, hashes, strict=True))
    ]  # fmt: skip
    for _ in progress(worker_pool.each(finish_part, tasks, workers), len(tasks), tr("writing shards")):
        pass
    return folders


# ---- the result --------------------------------------------------------------------------------------------------


def _publish(screened: list[Path], finished: list[Path], marks: Path, tests: Path, output: Path) -> dict[str, Any]:
    counts, contamination = total(screened, finished, marks, tests)
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
