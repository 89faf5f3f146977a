"""The last pass over a part, and its counts.

documents.parquet    documents left after removing duplicates, low scores and benchmark texts
dropped.jsonl.zst    dropped documents, each with the document kept instead, its score, or its benchmark text
counts.json          numbers by reason, language and corpus
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.data.arrow_columns import from_numbers, from_texts, read, values
from qianwen.data.curate.corpus import stage
from qianwen.data.curate.decontamination import Benchmarks, contaminated
from qianwen.data.curate.deduplication import ADDRESS, EXACT, NEAR
from qianwen.data.curate.filter_part import REPEATING, TEXT_COLUMNS
from qianwen.data.curate.quality_scorer import BINS, Score, Scorer, histogram, scores
from qianwen.data.curate.tally import DIMENSIONS, dimensions, dropped_row
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.text_arrays import Texts, by_size
from qianwen.runtime.files import verify_folder, write_jsonl

KINDS = {EXACT: DropReason.EXACT, ADDRESS: DropReason.ADDRESS, NEAR: DropReason.NEAR}  # of duplicates
RESULT = (*TEXT_COLUMNS, "lang_probability")
DROPPED = ("lang", "source", "kind", "licence", "text")  # columns that are looked at


@dataclass(frozen=True, kw_only=True)
class FinishSettings:
    """What the bytes of a finished part depend on: filters, scorers, and hashes of what it is made from."""

    passed: str  # the filters, as they are noted with every document
    scorers: tuple[Scorer, ...]
    models: tuple[str, ...]  # a hash of each scorer's model
    duplicates: str
    benchmarks: str
    screened: str = ""  # of the part itself


@dataclass(frozen=True, kw_only=True)
class FinishTask:
    """One part to finish: its number, the folders it is made from, and the one it goes to."""

    settings: FinishSettings
    number: int
    screened: Path
    duplicates: Path
    benchmarks: Path
    folder: Path


def finish_part(task: FinishTask) -> int:
    """Write what is left of a screened part, unless it is there and sound; how many documents."""
    stage(task.folder, asdict(task.settings), lambda folder: _finish(task, folder))
    return parquet.read_metadata(task.folder / "documents.parquet").num_rows


def _finish(task: FinishTask, folder: Path) -> None:
    verify_folder(task.screened)
    last = _LastPass(task)
    begin = 0
    with parquet.ParquetFile(task.screened / "documents.parquet") as file:
        known = [file.schema_arrow.field(name) for name in RESULT]
        result = pa.schema(
            [*known, ("passed", pa.string()), *((f"score_{name}", pa.float32()) for name in last.scored)]
        )
        repeating = [*REPEATING, "passed"]
        with parquet.ParquetWriter(
            folder / "documents.parquet", result, compression="zstd", use_dictionary=repeating
        ) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(RESULT), use_threads=False)
                left = last.filter(table, begin)
                begin += len(table)
                if len(left):
                    writer.write_table(left.cast(result).combine_chunks(), row_group_size=len(left))
    write_jsonl(folder / "dropped.jsonl.zst", last.dropped)
    (folder / "counts.json").write_text(json.dumps(last.counts(), sort_keys=True, ensure_ascii=False), encoding="utf-8")


class _LastPass:
    """What the last pass knows, and what it has found so far."""

    def __init__(self, task: FinishTask) -> None:
        first = np.load(task.duplicates / "first.npy")
        rows = slice(first[task.number], first[task.number + 1])
        columns = (
            np.load(task.duplicates / f"{name}.npy", mmap_mode="r")[rows] for name in ("kinds", "representatives")
        )
        self.kinds, self.representatives = columns
        self.source_of = _sources(task.duplicates, np.unique(self.representatives[self.kinds != 0]))
        self.benchmarks = Benchmarks.load(task.benchmarks)
        self.names = json.loads((task.benchmarks / "names.json").read_text(encoding="utf-8"))
        self.passed = task.settings.passed
        self.scorers = task.settings.scorers
        self.loaded: list[Score] = [scorer.load() for scorer in self.scorers]
        self.scored = {scorer.name: {"scores": [0] * BINS, "below": 0} for scorer in self.scorers}
        self.hits: Counter[int] = Counter()
        self.remaining = _passed(task.screened)
        self.dropped: list[dict[str, Any]] = []

    def filter(self, table: pa.Table, begin: int) -> pa.Table:
        """The rows of `table` that stay, with their new columns; it begins at row `begin` of the part."""
        kinds, representatives = (column[begin : begin + len(table)] for column in (self.kinds, self.representatives))
        rows = np.flatnonzero(kinds != 0)
        pairs = zip(kinds[rows], representatives[rows], strict=True)
        self._drop(table, rows, "duplicates", [(KINDS[kind], self.source_of[document]) for kind, document in pairs])
        left, columns = self._scored(table.take(from_numbers(np.flatnonzero(kinds == 0))))
        hit = _hits(left, self.benchmarks)
        held = np.flatnonzero(hit >= 0)
        self.hits.update(hit[held].tolist())
        self._drop(left, held, "benchmarks", [(DropReason.CONTAMINATED, self.names[number]) for number in hit[held]])
        left = left.append_column("passed", from_texts([self.passed] * len(left)))
        for name, numbers in columns.items():
            left = left.append_column(f"score_{name}", pa.array(numbers, pa.float32(), from_pandas=True))
        return left.take(from_numbers(np.flatnonzero(hit < 0))) if len(held) else left

    def _scored(self, table: pa.Table) -> tuple[pa.Table, dict[str, np.ndarray]]:
        """The rows that every scorer lets pass, and their numbers."""
        if not self.scorers:
            return table, {}
        texts, langs, kinds = (table[name].to_pylist() for name in ("text", "lang", "kind"))
        columns: dict[str, np.ndarray] = {}
        passes = np.ones(len(table), dtype=bool)
        for scorer, score in zip(self.scorers, self.loaded, strict=True):
            judged = np.array([scorer.judges(*pair) for pair in zip(langs, kinds, strict=True)], dtype=bool)
            numbers = scores(scorer, score, texts, judged)
            below = numbers < scorer.threshold  # NaN is not
            rows = np.flatnonzero(below & passes)
            self._drop(table, rows, "scores", [(scorer.name, f"{number:.3f}") for number in numbers[rows]])
            passes &= ~below
            columns[scorer.name] = numbers
            scored = self.scored[scorer.name]
            scored["scores"] = [a + b for a, b in zip(scored["scores"], histogram(numbers), strict=True)]
            scored["below"] += int(below.sum())
        left = table.take(from_numbers(np.flatnonzero(passes)))
        return left, {name: numbers[passes] for name, numbers in columns.items()}

    def _drop(self, table: pa.Table, rows: np.ndarray, stage_: str, reasons: Sequence[tuple[str, str]]) -> None:
        """Note rows as dropped, each for its (reason, detail)."""
        columns = (table[name].take(from_numbers(rows)).to_pylist() for name in DROPPED)
        for (reason, detail), lang, source, kind, licence, text in zip(reasons, *columns, strict=True):
            size = len(text) if text.isascii() else len(text.encode("utf-8"))
            for name, key in zip(DIMENSIONS, dimensions(lang, source, kind, licence, size), strict=True):
                self.remaining[name][key] -= 1
                self.remaining[f"{name}_bytes"][key] -= size
            self.dropped.append(dropped_row(stage_, reason, source, text, detail, lang))

    def counts(self) -> dict[str, Any]:
        reasons = Counter(f"{row['stage']} {row['reason']}" for row in self.dropped)
        left = {name: +counter for name, counter in self.remaining.items()}  # without what nothing is left of
        counts = {"hits": sorted(self.hits.items()), "dropped": dict(sorted(reasons.items())), "left": left}
        return counts | {"scorers": self.scored}


def _sources(duplicates: Path, documents: np.ndarray) -> dict[int, str]:
    """The sources of documents that stay for a duplicate, by their number; they are sorted, as the file is."""
    table = read(duplicates / "sources.parquet", ["document", "source"])
    rows = np.searchsorted(values(table["document"]), documents)
    return dict(zip(documents.tolist(), table["source"].take(from_numbers(rows)).to_pylist(), strict=True))


def _hits(table: pa.Table, benchmarks: Benchmarks) -> np.ndarray:
    """The benchmark text in each document, −1 for none [D]."""
    if not benchmarks.runs or not len(table):
        return np.full(len(table), -1, dtype=np.int64)
    return np.concatenate([contaminated(Texts(texts), benchmarks) for texts in by_size(table["text"].to_pylist())])


def _passed(screened: Path) -> dict[str, Counter[str]]:
    """Documents and bytes that a screened part holds, by each of DIMENSIONS."""
    counts = json.loads((screened / "counts.json").read_text(encoding="utf-8"))
    passed: dict[str, Counter[str]] = {}
    for name in DIMENSIONS:
        passed[name] = Counter({key: cell[2] for key, cell in counts[name].items()})
        passed[f"{name}_bytes"] = Counter({key: cell[3] for key, cell in counts[name].items()})
    return passed
