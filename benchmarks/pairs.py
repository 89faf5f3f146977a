"""What every benchmark shares: the peer beside us in one run, alternating, and one ratio out of it.

Machines are noisy, so a ratio is the median of ratios of neighbours in time: ours, peer, ours, peer, … Each pair gives
one, printed with the least and the largest. `ratio NAME VALUE` (larger is better for us) ends the output; `--json PATH`
writes every number with machine, versions and date.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

console = Console(width=120)
PACKAGES = ("torch", "transformers", "tokenizers", "tiktoken", "gigatoken", "rustbpe", "numpy")


def arguments(description: str | None, **defaults: Any) -> argparse.Namespace:
    """`--quick`, `--json PATH`, `--pairs N`, and further options with their defaults."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="finish within a minute; numbers are rough")
    parser.add_argument("--json", type=Path, help="write every number here")
    parser.add_argument("--pairs", type=int, default=5, help="how often ours and the peer alternate")
    for name, default in defaults.items():
        kind = type(default) if default is not None else str
        parser.add_argument("--" + name.replace("_", "-"), type=kind, default=default)
    return parser.parse_args()


def machine() -> dict[str, Any]:
    """Where and with what the numbers were measured."""
    cpu = platform.processor()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        named = {line.split(":")[0].strip(): line.split(":", 1)[1].strip() for line in lines if ":" in line}
        known = ("amx", "avx512_bf16", "avx512_vnni")
        wanted = [flag for flag in named.get("flags", "").split() if flag.startswith(known)]
        cpu = f"{named.get('model name', cpu)}, model {named.get('model', '?')} ({', '.join(wanted) or 'no VNNI'})"
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    torch = sys.modules.get("torch")
    gpu = {"gpu": torch.cuda.get_device_name()} if torch and torch.cuda.is_available() else {}
    return {
        "cpu": cpu,
        **gpu,
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": versions,
        "date": time.strftime("%Y-%m-%d"),
    }


@dataclass
class Pairs:
    """Paired measurements of one quantity, larger is better (tokens/s, MB/s)."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratios(self) -> list[float]:
        return [a / b for a, b in zip(self.ours, self.peer, strict=True)]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)


def alternate(ours: Callable[[], float], peer: Callable[[], float], num_pairs: int) -> Pairs:
    """Call both in turn `num_pairs` times; each returns a speed. The order within a pair alternates too."""
    pairs = Pairs()
    for number in range(num_pairs):
        first, second = (ours, peer) if number % 2 == 0 else (peer, ours)
        a, b = first(), second()
        pairs.ours.append(a if number % 2 == 0 else b)
        pairs.peer.append(b if number % 2 == 0 else a)
    return pairs


class Report:
    """A table, the ratios under it, and the JSON file."""

    def __init__(self, title: str, unit: str) -> None:
        self.title, self.unit = title, unit
        self.rows: dict[str, Pairs] = {}
        self.values: dict[str, Any] = {}

    def add(self, name: str, pairs: Pairs) -> None:
        self.rows[name] = pairs

    def note(self, name: str, value: Any) -> None:
        """A number beside the pairs, such as a size or a perplexity."""
        self.values[name] = value

    def finish(self, ratios: dict[str, float], json_path: Path | None) -> None:
        """Print everything and write the file; what another part of this benchmark wrote there the same day stays."""
        table = Table(title=self.title, box=None, header_style="dim")
        table.add_column("")
        for heading in (f"ours, {self.unit}", f"peer, {self.unit}", "ratio", "least", "largest"):
            table.add_column(heading, justify="right")
        for name, pairs in self.rows.items():
            numbers = [statistics.median(pairs.ours), statistics.median(pairs.peer), pairs.ratio]
            numbers += [min(pairs.ratios), max(pairs.ratios)]
            table.add_row(name, *(f"{number:,.2f}" for number in numbers))
        console.print(table if self.rows else self.title)
        for name, value in self.values.items():
            console.print(f"{name}: {value}", highlight=False)
        where = machine()
        console.print(f"{where['cpu']}, {where['cores']} cores, load {where['load']:.1f}, {where['date']}", style="dim")
        for name, value in ratios.items():
            print(f"ratio {name} {value:.3f}")
        if json_path:
            rows = {name: vars(pairs) | {"ratio": pairs.ratio} for name, pairs in self.rows.items()}
            body = {"title": self.title, "unit": self.unit, "machine": where}
            parts = {"rows": rows, "values": self.values, "ratios": ratios}
            before = json.loads(json_path.read_text()) if json_path.exists() else {}
            if [before.get("title"), before.get("machine", {}).get("date")] == [self.title, where["date"]]:
                parts = {name: before[name] | part for name, part in parts.items()}
            json_path.write_text(json.dumps(body | parts, indent=1, default=str))
