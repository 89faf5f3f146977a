"""Documents that hold the tests a model will be given: overlap in runs of 13 words, as GPT-3's (Brown et al., 2020,
appendix C) and the Qwen report's data were cleaned.

Words are compared as `text_arrays.py` hashes them, so case, punctuation, width and the script of digits hide nothing. A
test text of 8 to 12 words is looked for whole; a shorter one is not looked for: it would be found everywhere. Runs that
three or more texts of a benchmark share are the form of its questions and are not looked for either.

    Benchmarks     the runs of all benchmark texts, sorted, and which text each comes from
    contaminated   for each document of a batch, a benchmark text that is in it, or −1
    runs_in        the runs that are in a batch; `texts_with` then tells which benchmark texts have them

Not here: paraphrases and translations.
"""

import csv
import io
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qianwen.data.documents.readers import JSON_LINES, file_kind
from qianwen.data.documents.text_files import KINDS
from qianwen.data.file_listing import list_files, local_copy
from qianwen.data.text_arrays import Texts
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import open_bytes, read_jsonl
from qianwen.runtime.translation import tr

RUN, SHORTEST = 13, 8  # words
SHARED = 3  # texts of one benchmark from which on a run is its form
CHARACTERS = 1 << 18  # of benchmark texts hashed at a time


@dataclass(frozen=True)
class Benchmarks:
    """What is looked for: `runs[size]` sorted uint64, `items[size]` the number of the text each run is of."""

    names: list[str]  # of each text, "gsm8k_test.jsonl:12"
    runs: dict[int, np.ndarray]
    items: dict[int, np.ndarray]
    too_short: int

    @classmethod
    def from_texts(cls, texts: Iterable[tuple[str, str, str]]) -> "Benchmarks":
        """From (benchmark, name of the text, text)."""
        names: list[str] = []
        groups: list[int] = []
        benchmarks: dict[str, int] = {}
        runs_by: dict[int, list[tuple[np.ndarray, np.ndarray]]] = {}
        too_short = 0
        for batch in _by_size(texts):
            arrays = Texts([text for _, _, text in batch])
            number = np.arange(len(names), len(names) + len(batch))
            for benchmark, name, _ in batch:
                names.append(name)
                groups.append(benchmarks.setdefault(benchmark, len(benchmarks)))
            too_short += int((arrays.num_words < SHORTEST).sum())
            for size in range(SHORTEST, RUN + 1):
                runs, document = _runs_of_tests(arrays, size)
                runs_by.setdefault(size, []).append((runs, number[document]))
        group = np.array(groups, dtype=np.int64)
        pairs = {size: _distinct(several, group) for size, several in runs_by.items()}
        pairs = {size: pair for size, pair in pairs.items() if len(pair[0])}
        runs, items = ({size: pair[k] for size, pair in pairs.items()} for k in (0, 1))
        return cls(names, runs, items, too_short)

    def save(self, folder: Path) -> None:
        """As files that workers map into memory."""
        for size, runs in self.runs.items():
            np.save(folder / f"runs-{size}.npy", runs)
            np.save(folder / f"items-{size}.npy", self.items[size])

    @classmethod
    def load(cls, folder: Path) -> "Benchmarks":
        """What `save` wrote, without the names."""
        sizes = sorted(int(file.stem.partition("-")[2]) for file in folder.glob("runs-*.npy"))
        runs = {size: np.load(folder / f"runs-{size}.npy", mmap_mode="r") for size in sizes}
        items = {size: np.load(folder / f"items-{size}.npy", mmap_mode="r") for size in sizes}
        return cls([], runs, items, 0)


def contaminated(batch: Texts, benchmarks: Benchmarks) -> np.ndarray:
    """The number of a benchmark text that is in each document, −1 where there is none [D]."""
    hit = np.full(len(batch), -1, dtype=np.int64)
    for size, wanted in benchmarks.runs.items():
        place, document = _matches(batch, size, wanted)
        hit[document] = benchmarks.items[size][place]
    return hit


def runs_in(batch: Texts, benchmarks: Benchmarks) -> dict[int, list[int]]:
    """The runs of benchmark texts that are in a batch of documents, by their size."""
    return {size: wanted[_matches(batch, size, wanted)[0]].tolist() for size, wanted in benchmarks.runs.items()}


def texts_with(texts: Texts, runs: Mapping[int, Collection[int]]) -> set[int]:
    """The indices of the benchmark texts that have one of `runs`. Several texts may have the same run."""
    hits: set[int] = set()
    for size, wanted in runs.items():
        own, document = _runs_of_tests(texts, size)
        hits.update(document[np.isin(own, np.array(sorted(wanted), dtype=np.uint64))].tolist())
    return hits


def _matches(batch: Texts, size: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where in the sorted `wanted` each run of the batch is that is there, and the document it is in."""
    runs, begin = batch.ngrams(size)
    place = np.minimum(np.searchsorted(wanted, runs), len(wanted) - 1)
    found = np.flatnonzero(wanted[place] == runs)
    return place[found], batch.word_document[begin[found]]


def _runs_of_tests(texts: Texts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The runs of `size` words that benchmark texts are looked for by, and the text each is of."""
    runs, begin = texts.ngrams(size)
    document = texts.word_document[begin]
    wanted = texts.num_words[document] >= size if size == RUN else texts.num_words[document] == size
    return runs[wanted], document[wanted]


def benchmark_texts(paths: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """The texts of benchmark files as (benchmark, name, text): every string of a JSON line, a row of a CSV file as one
    text, a line of a text file. Raises DataError when a file is of another kind, or there is none.
    """
    for path in paths:
        for listed in list_files(path):
            with local_copy(listed.path, Path(tempfile.gettempdir())) as file:
                for number, text in _texts_of(file):
                    yield listed.name, f"{listed.name}:{number}", text


def _texts_of(file: Path) -> Iterator[tuple[int, str]]:
    suffix, _ = file_kind(file.name)
    if suffix in JSON_LINES:
        for number, row in enumerate(read_jsonl(file), start=1):
            yield from ((number, value) for value in row.values() if isinstance(value, str))
    elif suffix == ".csv" or KINDS.get(suffix) in ("text", "docs"):
        raw: Any = open_bytes(file)
        with raw:
            lines = io.TextIOWrapper(raw, encoding="utf-8", errors="replace", newline="")
            rows = (" ".join(row) for row in csv.reader(lines)) if suffix == ".csv" else lines
            yield from enumerate(rows, start=1)
    else:
        raise DataError(tr("{path}: benchmarks are read from JSON lines, CSV and text files", path=file))


def _by_size(texts: Iterable[tuple[str, str, str]]) -> Iterator[list[tuple[str, str, str]]]:
    batch: list[tuple[str, str, str]] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text[2])
        if size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _distinct(several: list[tuple[np.ndarray, np.ndarray]], group: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Runs sorted, each once with one text it is of; without those that SHARED texts of one benchmark have."""
    runs, items = (np.concatenate(parts) for parts in zip(*several, strict=True))
    order = np.lexsort((items, runs))
    runs, items = runs[order], items[order]
    first = np.ones(len(runs), dtype=bool)
    first[1:] = (runs[1:] != runs[:-1]) | (items[1:] != items[:-1])  # a text that repeats itself counts once
    runs, items = runs[first], items[first]
    both = np.lexsort((group[items], runs))
    new = np.ones(len(runs), dtype=bool)
    new[1:] = (runs[both][1:] != runs[both][:-1]) | (group[items[both]][1:] != group[items[both]][:-1])
    sizes = np.bincount(np.cumsum(new) - 1) if len(runs) else np.zeros(0, dtype=np.int64)
    form = np.unique(runs[both][new][sizes >= SHARED])
    once = np.flatnonzero(np.concatenate([[True], runs[1:] != runs[:-1]])) if len(runs) else np.zeros(0, dtype=np.int64)
    once = once[~np.isin(runs[once], form)]
    return runs[once], items[once]
