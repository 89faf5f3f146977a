"""The last pass over a part, and what all parts add up to.

documents.parquet    what is left after duplicates and benchmark texts were taken out
dropped.jsonl.zst    those, each with the document that stays for it, or the benchmark text it holds
counts.json          how many, by reason, language and corpus
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from qianwen.data.decontaminate import Benchmarks, contaminated
from qianwen.data.dedup import ADDRESS, EXACT, NEAR
from qianwen.data.pipeline import corpus_of, stage
from qianwen.data.readers import Document
from qianwen.data.screen import HEAD, TEXT_COLUMNS
from qianwen.data.words import Texts, by_size
from qianwen.runtime.files import write_jsonl

HOW = {EXACT: "exact", ADDRESS: "address", NEAR: "near"}
RESULT = (*TEXT_COLUMNS, "lang_probability")


def finish_part(task: dict[str, Any]) -> int:
    """Write what is left of a screened part, unless it is there and sound; how many documents."""
    stage(Path(task["folder"]), task["settings"], lambda folder: _finish(task, folder))
    return parquet.read_metadata(Path(task["folder"]) / "documents.parquet").num_rows


def _finish(task: dict[str, Any], folder: Path) -> None:
    marks, number = Path(task["marks"]), task["number"]
    first = np.load(marks / "first.npy")
    here = slice(first[number], first[number + 1])
    how, stays = (np.load(marks / f"{name}.npy", mmap_mode="r")[here] for name in ("how", "stays"))
    sources = parquet.read_table(marks / "sources.parquet").to_pydict()
    source_of = dict(zip(sources["document"], sources["source"], strict=True))
    benchmarks = Benchmarks.load(Path(task["tests"]))
    names = json.loads((Path(task["tests"]) / "names.json").read_text(encoding="utf-8"))
    dropped: list[dict[str, Any]] = []
    hits: Counter[int] = Counter()
    left_by: dict[str, Counter[str]] = {}
    begin = 0
    with parquet.ParquetFile(Path(task["screened"]) / "documents.parquet") as file:
        result = pa.schema([file.schema_arrow.field(name) for name in RESULT])
        with parquet.ParquetWriter(folder / "documents.parquet", result, compression="zstd") as writer:
            for group in range(file.num_row_groups):
                table = file.read_row_group(group, columns=list(RESULT))
                rows = slice(begin, begin + len(table))
                begin += len(table)
                alive = how[rows] == 0
                hit = _hits(table, alive, benchmarks)
                for row in np.flatnonzero(~alive).tolist():
                    detail = source_of[int(stays[rows][row])]
                    dropped.append(_dropped(table, row, "duplicates", HOW[int(how[rows][row])], detail))
                for row in np.flatnonzero(hit >= 0).tolist():
                    hits[int(hit[row])] += 1
                    dropped.append(_dropped(table, row, "benchmarks", "contaminated", names[hit[row]]))
                left = table.filter(pa.array(alive & (hit < 0)))
                if len(left):
                    _count(left, left_by)
                    writer.write_table(left.combine_chunks(), row_group_size=len(left))
    write_jsonl(folder / "dropped.jsonl.zst", dropped)
    reasons = Counter(f"{row['stage']} {row['reason']}" for row in dropped)
    counts = {"hits": sorted(hits.items()), "dropped": dict(sorted(reasons.items())), "left": left_by}
    (folder / "counts.json").write_text(json.dumps(counts, sort_keys=True, ensure_ascii=False), encoding="utf-8")


def _hits(table: pa.Table, alive: np.ndarray, benchmarks: Benchmarks) -> np.ndarray:
    """The benchmark text in each document that is alive, −1 for none [D]."""
    hit = np.full(len(table), -1, dtype=np.int64)
    if not benchmarks.runs:
        return hit
    rows = np.flatnonzero(alive)
    texts = table["text"].take(pa.array(rows)).to_pylist()
    found = [contaminated(Texts(some), benchmarks) for some in by_size(texts)]
    hit[rows] = np.concatenate(found) if found else hit[rows]
    return hit


def _dropped(table: pa.Table, row: int, stage_: str, reason: str, detail: str) -> dict[str, Any]:
    source, lang, text = (table[name][row].as_py() for name in ("source", "lang", "text"))
    return {"stage": stage_, "reason": reason, "source": source, "detail": detail, "lang": lang, "head": text[:HEAD]}


def _count(table: pa.Table, by: dict[str, Counter[str]]) -> None:
    """Documents and bytes of what is left, by language, corpus and length (as a power of two)."""
    sizes = pc.call_function("binary_length", [table["text"]]).to_pylist()
    sources, kinds, langs = (table[name].to_pylist() for name in ("source", "kind", "lang"))
    for source, kind, lang, size in zip(sources, kinds, langs, sizes, strict=True):
        corpus = corpus_of(Document(text="", source=source, lang=lang, licence="", kind=kind))
        for name, key in (("lang", lang), ("corpus", corpus), ("length", str(max(size, 1).bit_length() - 1))):
            by.setdefault(name, Counter())[key] += 1
            by.setdefault(f"{name}_bytes", Counter())[key] += size


# ---- all parts ---------------------------------------------------------------------------------------------------


def total(
    screened: list[Path], finished: list[Path], marks: Path, tests: Path
) -> tuple[dict[str, Any], dict[str, dict[str, int]]]:
    """The counts of a curation, and how many documents held each benchmark text that was found."""
    funnel: dict[str, Counter[str]] = {
        name: Counter() for name in ("read", "language", "rules", "duplicates", "benchmarks")
    }
    before: dict[str, dict[str, list[int]]] = {}
    left: dict[str, Counter[str]] = {}
    hits: Counter[int] = Counter()
    personal: Counter[str] = Counter()
    num_read = 0
    for folder in screened:
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        num_read += counts["read"]
        personal.update(counts["personal"])
        for stage_, found in counts["dropped"].items():
            funnel[stage_].update(found)
        for name in ("lang", "corpus", "length"):
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
    by = {
        name: _table(before.get(name, {}), left.get(name, Counter()), left.get(f"{name}_bytes", Counter()))
        for name in ("lang", "corpus", "length")
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
