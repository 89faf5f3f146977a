"""Duplicates over all screened parts: their keys read a few columns at a time, shingles made part by part by workers.

kinds.npy            whether each document is a duplicate, and of which kind      (`deduplication.py`)
representatives.npy  the document that stays for each
first.npy            the number of each part's first document
sources.parquet      the sources of the documents that stay for others
counts.json          how many pairs were compared, and how many were alike
"""

import json
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.data import arrow_columns, worker_pool
from qianwen.data.curate.deduplication import Keys, find_duplicates
from qianwen.data.curate.filter_part import KEY_COLUMNS
from qianwen.data.curate.minhash import MinHashConfig, shingle_sets
from qianwen.data.text_arrays import Texts, by_size
from qianwen.runtime.log import progress
from qianwen.runtime.translation import tr


@dataclass(frozen=True, kw_only=True)
class ShingleTask:
    """Documents of one part whose shingles are to be compared; `rows-NUMBER.npy` in `folder` names their rows."""

    shard: Path
    folder: Path
    number: int
    config: MinHashConfig


def write_duplicates(screened: list[Path], folder: Path, config: MinHashConfig, workers: int | None) -> None:
    """Find the duplicates among all documents of the screened parts, and write the files named above."""
    shards = [path / "documents.parquet" for path in screened]
    rows = np.array([parquet.read_metadata(shard).num_rows for shard in shards], dtype=np.int64)
    first = np.concatenate([[0], np.cumsum(rows)])
    names = (*KEY_COLUMNS, "num_words")
    columns = dict(zip(names, _columns(shards, names), strict=True))
    prints = np.stack([columns["print_low"], columns["print_high"]], axis=1)
    keys = Keys(
        prints, columns["text_hash"], columns["address"], columns["word_key"], columns["num_words"].astype(np.int64)
    )

    def sets(chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _sets_of(chosen, shards, first, folder / "sets", config, workers)

    duplicates = find_duplicates(keys, _Bands(shards), sets, config)
    np.save(folder / "first.npy", first)
    np.save(folder / "representatives.npy", duplicates.representatives)
    np.save(folder / "kinds.npy", duplicates.kinds)
    shutil.rmtree(folder / "sets", ignore_errors=True)
    representatives = np.unique(duplicates.representatives[duplicates.kinds != 0])
    sources = arrow_columns.from_texts(_taken(shards, first, representatives, "source"))
    table = pa.Table.from_arrays([arrow_columns.from_numbers(representatives), sources], ["document", "source"])
    parquet.write_table(table, folder / "sources.parquet")
    counts = {"candidates": duplicates.num_candidates, "pairs": duplicates.num_pairs}
    (folder / "counts.json").write_text(json.dumps(counts))


def _columns(shards: list[Path], names: Sequence[str]) -> list[np.ndarray]:
    """The columns of all parts, each part after the one before."""
    tables = [arrow_columns.read(shard, names) for shard in shards]
    return [np.concatenate([arrow_columns.values(table[name]) for table in tables]) for name in names]


class _Bands:
    """The bands of all documents, one at a time, which are read a few together."""

    def __init__(self, shards: list[Path]) -> None:
        self.shards, self.first, self.columns = shards, 0, []

    def __call__(self, number: int, num_read: int = 5) -> np.ndarray:
        if not self.first <= number < self.first + len(self.columns):
            self.columns = []
            existing = parquet.read_schema(self.shards[0]).names
            names = [f"band_{band}" for band in range(number, number + num_read)]
            self.first, self.columns = number, _columns(self.shards, [name for name in names if name in existing])
        return self.columns[number - self.first]


def _taken(shards: list[Path], first: np.ndarray, chosen: np.ndarray, name: str) -> list[Any]:
    """A column's values for the chosen documents, which are sorted."""
    values: list[Any] = []
    for number, shard in enumerate(shards):
        inside = chosen[np.searchsorted(chosen, first[number]) : np.searchsorted(chosen, first[number + 1])]
        if len(inside):
            values += (
                arrow_columns.read(shard, [name])[name]
                .take(arrow_columns.from_numbers(inside - first[number]))
                .to_pylist()
            )
    return values


def _sets_of(
    chosen: np.ndarray, shards: list[Path], first: np.ndarray, folder: Path, config: MinHashConfig, workers: int | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The shingle sets of the chosen documents, on the disk and mapped into memory; where each begins there, and how
    large it is, in the order of `chosen`.
    """
    folder.mkdir(exist_ok=True)
    order = np.sort(chosen)
    tasks: list[ShingleTask] = []
    for number, shard in enumerate(shards):
        inside = order[np.searchsorted(order, first[number]) : np.searchsorted(order, first[number + 1])]
        if len(inside):
            np.save(folder / f"rows-{number}.npy", inside - first[number])
            tasks.append(ShingleTask(shard=shard, folder=folder, number=number, config=config))
    for _ in progress(worker_pool.each(shingle_part, tasks, workers), len(tasks), tr("comparing candidates")):
        pass
    sizes = np.concatenate([np.load(folder / f"sizes-{task.number}.npy") for task in tasks])
    with (folder / "sets").open("wb") as joined:
        for task in tasks:
            with (folder / f"values-{task.number}").open("rb") as values:
                shutil.copyfileobj(values, joined, 1 << 20)
    values = np.memmap(folder / "sets", dtype="<u4", mode="r") if sizes.sum() else np.zeros(0, dtype="<u4")
    start = np.cumsum(sizes) - sizes
    place = np.searchsorted(order, chosen)
    return values, start[place], sizes[place]


def shingle_part(task: ShingleTask) -> int:
    """Write the shingle sets of the task's rows; how many rows."""
    folder, number = task.folder, task.number
    rows = np.load(folder / f"rows-{number}.npy")
    sizes = []
    with (folder / f"values-{number}").open("wb") as file:
        for texts in _texts_at(task.shard, rows):
            values, counts = shingle_sets(Texts(texts), task.config)
            values.astype("<u4").tofile(file)
            sizes.append(counts)
    np.save(folder / f"sizes-{number}.npy", np.concatenate(sizes))
    return len(rows)


def _texts_at(shard: Path, rows: np.ndarray) -> Iterable[list[str]]:
    """The texts of the rows, some at a time."""
    begin = 0
    with parquet.ParquetFile(shard) as file:
        for batch in file.iter_batches(batch_size=1024, columns=["text"], use_threads=False):
            inside = rows[np.searchsorted(rows, begin) : np.searchsorted(rows, begin + len(batch))]
            begin += len(batch)
            texts = batch["text"].take(arrow_columns.from_numbers(inside - (begin - len(batch)))).to_pylist()
            yield from by_size(texts)
