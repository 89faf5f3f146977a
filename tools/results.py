"""docs/results.md from the JSON files that benchmarks leave in benchmarks/results (`--json` names one).

    python tools/results.py

Each file, SCRIPT.json or SCRIPT.WHAT.json, becomes a table of ours, the peer and their ratio with its least and largest
value, under the machine and the date it was measured on. Nothing is typed in by hand, so the page cannot say more than
was measured.
"""

import json
import math
import statistics
from pathlib import Path
from typing import Any

from qianwen.runtime.files import atomic_file

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Results

Written by `tools/results.py` from what the scripts in `benchmarks/` measured; every script runs the peer beside us in
one run and prints the median of the ratios of neighbouring runs. Ratios above 1 are in our favour.
"""


def section(file: str, data: dict[str, Any]) -> str:
    """One benchmark as Markdown; `file` is the name of its numbers."""
    machine = data["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine.get("versions", {}).items())
    gpu = f", {machine['gpu']}" if "gpu" in machine else ""
    source = f"`benchmarks/{file.partition('.')[0]}.py` ([{file}](../benchmarks/results/{file}))"
    where = f"{machine['date']}: {machine['cpu']}, {machine['cores']} cores{gpu}; {versions}"
    lines = [f"## {data['title']}", "", f"{source}, {where}.", ""]
    if data["rows"]:
        lines += [f"| {data['unit']} | ours | peer | ratio | least | largest |", "|---|---|---|---|---|---|"]
    for row, pairs in data["rows"].items():
        ratios = [ours / peer for ours, peer in zip(pairs["ours"], pairs["peer"], strict=True)]
        numbers = [statistics.median(pairs["ours"]), statistics.median(pairs["peer"]), statistics.median(ratios)]
        shown = " | ".join(f"{number:,.2f}" for number in [*numbers, min(ratios), max(ratios)])
        lines.append(f"| {row} | {shown} |")
    notes = data.get("values", {})
    tables = {note: rows for note, rows in notes.items() if is_table(rows)}
    lines += ["", *(f"* {note}: {value}" for note, value in notes.items() if note not in tables)]
    for note, rows in tables.items():
        lines += ["", *table(note, rows)]
    if data["ratios"]:
        lines += ["", "`" + "`, `".join(f"ratio {key} {value:.3f}" for key, value in data["ratios"].items()) + "`"]
    return "\n".join([*lines, ""])


def is_table(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(isinstance(row, dict) for row in value.values())


def table(note: str, rows: dict[str, dict[str, Any]]) -> list[str]:
    """A note that holds numbers by row and column."""
    columns = list(dict.fromkeys(name for row in rows.values() for name in row))
    lines = [f"| {note} | " + " | ".join(columns) + " |", "|" + "---|" * (len(columns) + 1)]
    for name, row in rows.items():
        lines.append(f"| {name} | " + " | ".join(cell(row.get(column)) for column in columns) + " |")
    return lines


def cell(value: Any) -> str:
    """A number, or an estimate: its value and, in brackets, the interval it lies in."""
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:,.4g}"
    if isinstance(value, list) and all(isinstance(part, int | float) for part in value[:3]):
        return f"{cell(value[0])} ({cell(value[1])} to {cell(value[2])})"
    return "" if value is None else str(value)


def main() -> None:
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    sections = [section(file.name, json.loads(file.read_text(encoding="utf-8"))) for file in files]
    with atomic_file(ROOT / "docs/results.md", "w") as page:
        page.write("\n".join([HEAD, *sections]))


if __name__ == "__main__":
    main()
