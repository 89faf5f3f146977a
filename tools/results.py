"""docs/results.md from the JSON files that benchmarks leave in benchmarks/results (`--json` names one).

    python tools/results.py

Each file, SCRIPT.json or SCRIPT.WHAT.json, becomes a table of ours, the peer and their ratio with its least and largest
value, under the machine and the date it was measured on. Nothing is typed in by hand, so the page cannot say more than
was measured.
"""

import json
import statistics
from pathlib import Path
from typing import Any

from qianwen.runtime.files import atomic_file

ROOT = Path(__file__).resolve().parents[1]
HEAD = """# Results

Written by `tools/results.py` from what the scripts in `benchmarks/` measured; every script runs the peer beside us in
one run and prints the median of the ratios of neighbouring runs. Ratios above 1 are in our favour.
"""


def section(name: str, data: dict[str, Any]) -> str:
    """One benchmark as Markdown."""
    machine = data["machine"]
    versions = ", ".join(f"{package} {version}" for package, version in machine.get("versions", {}).items())
    lines = [f"## {data['title']}", "", f"`benchmarks/{name}.py`, {machine['date']}: {machine['cpu']}, "
             f"{machine['cores']} cores; {versions}.", ""]  # fmt: skip
    if data["rows"]:
        lines += [f"| {data['unit']} | ours | peer | ratio | least | largest |", "|---|---|---|---|---|---|"]
    for row, pairs in data["rows"].items():
        ratios = [ours / peer for ours, peer in zip(pairs["ours"], pairs["peer"], strict=True)]
        numbers = [statistics.median(pairs["ours"]), statistics.median(pairs["peer"]), statistics.median(ratios)]
        shown = " | ".join(f"{number:,.2f}" for number in [*numbers, min(ratios), max(ratios)])
        lines.append(f"| {row} | {shown} |")
    lines += ["", *(f"* {note}: {value}" for note, value in data.get("values", {}).items())]
    lines += ["", "`" + "`, `".join(f"ratio {key} {value:.3f}" for key, value in data["ratios"].items()) + "`", ""]
    return "\n".join(lines)


def main() -> None:
    files = sorted((ROOT / "benchmarks/results").glob("*.json"))
    sections = [section(file.name.partition(".")[0], json.loads(file.read_text(encoding="utf-8"))) for file in files]
    with atomic_file(ROOT / "docs/results.md", "w") as page:
        page.write("\n".join([HEAD, *sections]))


if __name__ == "__main__":
    main()
