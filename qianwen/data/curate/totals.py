"""What all parts of a curation add up to: its counts, and how many documents held each benchmark text."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from qianwen.data.curate.quality_scorer import BINS
from qianwen.data.curate.tally import DIMENSIONS


def total_counts(
    screened: list[Path], finished: list[Path], duplicates: Path, benchmarks: Path
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
        for stage, reasons in counts["dropped"].items():
            funnel[stage].update(reasons)
        for name in DIMENSIONS:
            for key, cell in counts[name].items():
                row = before.setdefault(name, {}).setdefault(key, [0] * 4)
                row[:] = [a + b for a, b in zip(row, cell, strict=True)]
    for folder in finished:
        counts = json.loads((folder / "counts.json").read_text(encoding="utf-8"))
        hits.update({int(number): count for number, count in counts["hits"]})
        for key, count in counts["dropped"].items():
            stage, _, reason = key.partition(" ")
            funnel[stage][reason] += count
        for name, cells in counts["left"].items():
            left.setdefault(name, Counter()).update(cells)
        for name, scores in counts["scorers"].items():
            sums = judged.setdefault(name, {"scores": [0] * BINS, "below": 0})
            sums["scores"] = [a + b for a, b in zip(sums["scores"], scores["scores"], strict=True)]
            sums["below"] += scores["below"]
    by = {
        name: _table(before.get(name, {}), left.get(name, Counter()), left.get(f"{name}_bytes", Counter()))
        for name in DIMENSIONS
    }
    names = json.loads((benchmarks / "names.json").read_text(encoding="utf-8"))
    readable = sum(cell[1] for cell in before.get("lang", {}).values())
    body = {
        "read": num_read,
        "bytes": readable,
        "dropped": {name: dict(reasons.most_common()) for name, reasons in funnel.items()},
        "kept": {
            "documents": sum(left.get("lang", Counter()).values()),
            "bytes": sum(left.get("lang_bytes", Counter()).values()),
        },
        "personal": dict(personal.most_common()),
        "scorers": judged,
        "pairs": json.loads((duplicates / "counts.json").read_text()),
        "benchmarks": json.loads((benchmarks / "counts.json").read_text()) | {"found": len(hits)},
        **{f"by_{name}": table for name, table in by.items()},
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
    hits_by: dict[str, dict[str, int]] = {}
    for number, count in sorted(hits.items()):
        benchmark, _, _ = names[number].rpartition(":")
        texts = hits_by.setdefault(benchmark, {})
        texts[names[number]] = texts.get(names[number], 0) + count
    return hits_by
