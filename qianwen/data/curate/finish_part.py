"""The last pass over a part, and what all parts add up to.

documents.parquet    what is left after duplicates, what scorers score low and benchmark texts were taken out
dropped.jsonl.zst    those, each with the document that stays for it, its score, or the benchmark text it holds
counts.json          how many, by reason, language and corpus
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.data.arrow_columns import of_numbers, of_texts, read, values
from qianwen.data.curate.corpus import stage
from qianwen.data.curate.decontamination import Benchmarks, contaminated
from qianwen.data.curate.deduplication import ADDRESS, EXACT, NEAR
from qianwen.data.curate.filter_part import DIMENSIONS, HEAD, REPEATING, TEXT_COLUMNS, dimensions
from qianwen.data.curate.quality_scorer import BINS, Score, Scorer, histogram, scores
from qianwen.data.text_arrays import Texts, by_size
from qianwen.runtime.files import verify_folder, write_jsonl

HOW = {EXACT: "exact", ADDRESS: "address", NEAR: "near"}
RESULT = (*TEXT_COLUMNS, "lang_probability")
DROPPED = ("lang", "source", "kind", "licence", "text")  # columns that are looked at


def finish_part(task: dict[str, Any]) -> int:
    """Write what is left of a screened part, unless it is there and sound; how many documents."""
    stage(Path(task["folder"]), task["settings"], lambda folder: _finish(task, folder))
    return parquet.read_metadata(Path(task["folder"]) / "documents.parquet").num_rows


def _finish(task: dict[str, Any], folder: Path) -> None:
    verify_folder(task["screened"])
    last = _LastPass(task)
    begin = 0
    with parquet.ParquetFile(Path(task["screened"]) / "documents.parquet") as file:
        known = [file.schema_arrow.field(name) for name in RESULT]
        result = pa.schema([*known, ("passed", pa.string()), *((f"score_{name}", pa.float32()) for name in last.seen)])
        repeating = [*REPEATING, "passed"]
        with parquet.ParquetWriter(
            folder / "documents.parquet", result, compression="zstd", use_dictionary=repeating
        ) as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(RESULT), use_threads=False)
                left = last.left_of(table, begin)
                begin += len(table)
                if len(left):
                    writer.write_table(left.cast(result).combine_chunks(), row_group_size=len(left))
    write_jsonl(folder / "dropped.jsonl.zst", last.dropped)
    (folder / "counts.json").write_text(json.dumps(last.counts(), sort_keys=True, ensure_ascii=False), encoding="utf-8")


class _LastPass:
    """What the last pass knows, and what it has found so far."""

    def __init__(self, task: dict[str, Any]) -> None:
        marks, tests = Path(task["marks"]), Path(task["tests"])
        first = np.load(marks / "first.npy")
        here = slice(first[task["number"]], first[task["number"] + 1])
        self.how, self.stays = (np.load(marks / f"{name}.npy", mmap_mode="r")[here] for name in ("how", "stays"))
        self.source_of = _sources(marks, np.unique(self.stays[self.how != 0]))
        self.benchmarks = Benchmarks.load(tests)
        self.names = json.loads((tests / "names.json").read_text(encoding="utf-8"))
        self.passed = task["settings"]["passed"]
        self.scorers = [Scorer(**one) for one in task["settings"]["scorers"]]
        self.loaded: list[Score] = [scorer.load() for scorer in self.scorers]
        self.seen = {scorer.name: {"scores": [0] * BINS, "below": 0} for scorer in self.scorers}
        self.hits: Counter[int] = Counter()
        self.left_by = _passed(Path(task["screened"]))
        self.dropped: list[dict[str, Any]] = []

    def left_of(self, table: pa.Table, begin: int) -> pa.Table:
        """The rows of `table` that stay, with their new columns; it begins at row `begin` of the part."""
        how, stays = (column[begin : begin + len(table)] for column in (self.how, self.stays))
        twice = np.flatnonzero(how != 0)
        why = [(HOW[kind], self.source_of[other]) for kind, other in zip(how[twice], stays[twice], strict=True)]
        self._drop(table, twice, "duplicates", why)
        left, columns = self._scored(table.take(of_numbers(np.flatnonzero(how == 0))))
        hit = _hits(left, self.benchmarks)
        held = np.flatnonzero(hit >= 0)
        self.hits.update(hit[held].tolist())
        self._drop(left, held, "benchmarks", [("contaminated", self.names[number]) for number in hit[held]])
        left = left.append_column("passed", of_texts([self.passed] * len(left)))
        for name, numbers in columns.items():
            left = left.append_column(f"score_{name}", pa.array(numbers, pa.float32(), from_pandas=True))
        return left.take(of_numbers(np.flatnonzero(hit < 0))) if len(held) else left

    def _scored(self, table: pa.Table) -> tuple[pa.Table, dict[str, np.ndarray]]:
        """The rows that every scorer lets pass, and their numbers."""
        if not self.scorers:
            return table, {}
        texts, langs, kinds = (table[name].to_pylist() for name in ("text", "lang", "kind"))
        found: dict[str, np.ndarray] = {}
        passes = np.ones(len(table), dtype=bool)
        for scorer, score in zip(self.scorers, self.loaded, strict=True):
            judged = np.array([scorer.judges(*pair) for pair in zip(langs, kinds, strict=True)], dtype=bool)
            numbers = scores(scorer, score, texts, judged)
            below = numbers < scorer.least  # NaN is not
            rows = np.flatnonzero(below & passes)
            self._drop(table, rows, "scores", [(scorer.name, f"{number:.3f}") for number in numbers[rows]])
            passes &= ~below
            found[scorer.name] = numbers
            seen = self.seen[scorer.name]
            seen["scores"] = [a + b for a, b in zip(seen["scores"], histogram(numbers), strict=True)]
            seen["below"] += int(below.sum())
        left = table.take(of_numbers(np.flatnonzero(passes)))
        return left, {name: numbers[passes] for name, numbers in found.items()}

    def _drop(self, table: pa.Table, rows: np.ndarray, stage_: str, why: Sequence[tuple[str, str]]) -> None:
        """Write down some rows as dropped, each for its (reason, detail)."""
        columns = (table[name].take(of_numbers(rows)).to_pylist() for name in DROPPED)
        for (reason, detail), lang, source, kind, licence, text in zip(why, *columns, strict=True):
            size = len(text) if text.isascii() else len(text.encode("utf-8"))
            for name, key in zip(DIMENSIONS, dimensions(lang, source, kind, licence, size), strict=True):
                self.left_by[name][key] -= 1
                self.left_by[f"{name}_bytes"][key] -= size
            entry = {"stage": stage_, "reason": reason, "source": source, "detail": detail, "lang": lang}
            self.dropped.append(entry | {"head": text[:HEAD]})

    def counts(self) -> dict[str, Any]:
        reasons = Counter(f"{row['stage']} {row['reason']}" for row in self.dropped)
        left = {name: +found for name, found in self.left_by.items()}  # without what nothing is left of
        found = {"hits": sorted(self.hits.items()), "dropped": dict(sorted(reasons.items())), "left": left}
        return found | {"scorers": self.seen}


def _sources(marks: Path, documents: np.ndarray) -> dict[int, str]:
    """The source of some documents that were kept for others, by their number; they are sorted, as the file is."""
    table = read(marks / "sources.parquet", ["document", "source"])
    rows = np.searchsorted(values(table["document"]), documents)
    return dict(zip(documents.tolist(), table["source"].take(of_numbers(rows)).to_pylist(), strict=True))


def _hits(table: pa.Table, benchmarks: Benchmarks) -> np.ndarray:
    """The benchmark text in each document, −1 for none [D]."""
    if not benchmarks.runs or not len(table):
        return np.full(len(table), -1, dtype=np.int64)
    return np.concatenate([contaminated(Texts(some), benchmarks) for some in by_size(table["text"].to_pylist())])


def _passed(screened: Path) -> dict[str, Counter[str]]:
    """Documents and bytes that a screened part holds, by each of DIMENSIONS."""
    counts = json.loads((screened / "counts.json").read_text(encoding="utf-8"))
    found: dict[str, Counter[str]] = {}
    for name in DIMENSIONS:
        found[name] = Counter({key: cell[2] for key, cell in counts[name].items()})
        found[f"{name}_bytes"] = Counter({key: cell[3] for key, cell in counts[name].items()})
    return found


# ---- all parts ---------------------------------------------------------------------------------------------------


def total(
    screened: list[Path], finished: list[Path], marks: Path, tests: Path
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """The counts of a curation, and how many documents held each benchmark text that was found."""
    funnel: dict[str, Counter[str]] = {
        name: Counter() for name in ("read", "language", "rules", "duplicates", "scores", "benchmarks")
    }
    before: dict[str, dict[str, list[int]]] = {}
    left: dict[str, Counter[str]] = {}
    hits: Counter[int] = Counter()
    personal: Counter[str] = Counter()
    judged: dict[str, dict[str, Any]] = {}
    num_read = 0
    for folder in screened:
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        num_read += counts["read"]
        personal.update(counts["personal"])
        for stage_, found in counts["dropped"].items():
            funnel[stage_].update(found)
        for name in DIMENSIONS:
            for key, cell in counts[name].items():
                row = before.setdefault(name, {}).setdefault(key, [0] * 4)
                row[:] = [a + b for a, b in zip(row, cell, strict=True)]
    for folder in finished:
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        hits.update({int(number): count for number, count in counts["hits"]})
        for key, count in counts["dropped"].items():
            stage_, _, reason = key.partition(" ")
            funnel[stage_][reason] += count
        for name, found in counts["left"].items():
            left.setdefault(name, Counter()).update(found)
        for name, found in counts["scorers"].items():
            sums = judged.setdefault(name, {"scores": [0] * BINS, "below": 0})
            sums["scores"] = [a + b for a, b in zip(sums["scores"], found["scores"], strict=True)]
            sums["below"] += found["below"]
    by = {
        name: _table(before.get(name, {}), left.get(name, Counter()), left.get(f"{name}_bytes", Counter()))
        for name in DIMENSIONS
    }
    names = json.loads((tests / "names.json").read_text(encoding="utf-8"))
    readable = sum(cell[1] for cell in before.get("lang", {}).values())
    body = {
        "read": num_read,
        "bytes": readable,
        "dropped": {name: dict(found.most_common()) for name, found in funnel.items()},
        "kept": {
            "documents": sum(left.get("lang", Counter()).values()),
            "bytes": sum(left.get("lang_bytes", Counter()).values()),
        },
        "personal": dict(personal.most_common()),
        "scorers": judged,
        "pairs": json.loads((marks / "counts.json").read_text()),
        "benchmarks": json.loads((tests / "counts.json").read_text()) | {"found": len(hits)},
        **{f"by_{name}": found for name, found in by.items()},
    }
    return body, _by_benchmark(hits, names)


def _table(before: dict[str, list[int]], left: Counter[str], size: Counter[str]) -> dict[str, dict[str, int]]:
    rows = sorted(before.items(), key=lambda item: (-item[1][1], item[0]))
    return {
        key: {"documents": cell[0], "bytes": cell[1], "passed": cell[2], "kept": left[key], "kept_bytes": size[key]}
        for key, cell in rows
    }


def _by_benchmark(hits: Counter[int], names: list[str]) -> dict[str, dict[str, int]]:
    """Benchmark file → name of a text → how many documents held it."""
    found: dict[str, dict[str, int]] = {}
    for number, count in sorted(hits.items()):
        benchmark, _, _ = names[number].rpartition(":")
        texts = found.setdefault(benchmark, {})
        texts[names[number]] = texts.get(names[number], 0) + count
    return found
