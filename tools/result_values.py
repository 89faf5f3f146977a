"""Values of the benchmarks' JSON files, and how `results.py` prints them.

Speeds are kept in pairs, ours and the peer's, measured one after the other. The number of a pair is the median of its
runs; its ratio is the median of the runs' ratios, ours / peer.
"""

import math
import re
import statistics
from fnmatch import fnmatchcase
from typing import Any

NONE = "–"  # not measured
PACKAGES = {"torch": "PyTorch", "tokenizers": "Hugging Face tokenizers"}  # others have the name people use


class Results:
    """Every JSON file by its name, and which pairs were shown."""

    def __init__(self, files: dict[str, dict[str, Any]]) -> None:
        self.files = files
        self.shown: dict[str, set[str]] = {}

    def machine(self, file: str) -> dict[str, Any]:
        return self._file(file)["machine"]

    def pairs(self, file: str, pattern: str) -> dict[str, dict[str, Any]]:
        """The pairs whose name matches the pattern (`*` is any text)."""
        rows = {name: pair for name, pair in self._file(file)["rows"].items() if fnmatchcase(name, pattern)}
        if not rows:
            raise SystemExit(f"{file} has no pair like {pattern!r}")
        return rows

    def value(self, file: str, path: list[Any], *, pick: str = "", is_optional: bool = False) -> Any:
        """What is at the path; with `pick`, the number that the pattern's group finds in its text."""
        value: Any = self._file(file)
        for depth, part in enumerate(path):
            matching = [key for key in value if fnmatchcase(key, part)] if isinstance(value, dict) else []
            if isinstance(value, dict) and len(matching) != 1 and part not in value:
                if is_optional:
                    return None
                raise SystemExit(f"{file}: {len(matching)} keys match {part!r} in {' > '.join(map(str, path))}")
            part = part if not isinstance(value, dict) or part in value else matching[0]
            if depth == 1 and path[0] == "rows":
                self.shown.setdefault(file, set()).add(part)
            value = value[part]
        if not pick:
            return value
        match = re.search(pick, value)
        if match is None:
            raise SystemExit(f"{file}: no {pick!r} in {value!r}")
        return float(match[1].replace(",", "").rstrip("%"))

    def unused(self) -> list[str]:
        """Files that were not shown at all, and pairs that were not."""
        files = [file for file in self.files if file not in self.shown]
        return files + [
            f"{file}: {row}"
            for file, shown in self.shown.items()
            for row in self.files[file]["rows"]
            if row not in shown
        ]

    def _file(self, file: str) -> dict[str, Any]:
        if file not in self.files:
            raise SystemExit(f"benchmarks/results/{file} does not exist")
        self.shown.setdefault(file, set())
        return self.files[file]


def machine_name(machine: dict[str, Any], *, is_short: bool = False) -> str:
    """Such as "Intel Xeon, AMX (model 207), 2 cores"; the short form of a machine with a GPU is that of the GPU."""
    name, _, rest = machine["cpu"].partition(", model ")
    name = re.sub(r"\((R|TM)\)|\bProcessor\b|\bCPU\b|\d+-Core\b|@.*", " ", name)
    model, _, flags = rest.partition(" ")
    family = next((family for flag, family in (("amx", "AMX"), ("avx512", "AVX-512")) if flag in flags), "AVX2")
    processor = f"{' '.join(name.split())}, {family} (model {model}), {machine['cores']} cores"
    if "gpu" not in machine:
        return processor
    return machine["gpu"] if is_short else f"{machine['gpu']}; {processor}"


def versions_of(machine: dict[str, Any], packages: list[str]) -> str:
    """Python, PyTorch, and the packages that matter to a section."""
    known = {name: machine["versions"][name] for name in ("torch", *packages) if name in machine["versions"]}
    named = [f"{PACKAGES.get(name, name)} {version.partition('+')[0]}" for name, version in known.items()]
    return ", ".join([f"Python {machine['python']}", *named])


def number(value: float) -> str:
    """Three significant digits, without powers of ten, and no decimals that the value does not have."""
    if not value:
        return "0"
    digits = 2 - math.floor(math.log10(abs(float(f"{value:.2e}"))))
    own = len(f"{value:.6f}".rstrip("0").partition(".")[2])
    return f"{round(value, digits):,.{min(max(digits, 0), own)}f}"


def percent(share: float) -> str:
    return f"{number(100 * share)} %"


def change(value: float) -> str:
    """A change that is in percent already; its sign is shown, and at most two decimals."""
    text = f"{value:+.1f}" if abs(value) >= 10 else f"{value:+.2f}"
    return "0 %" if float(text) == 0 else f"{text} %"


def interval(estimate: list[float]) -> str:
    """A share with its 95 % interval."""
    value, low, high = (f"{100 * part:.0f}" for part in estimate[:3])
    return f"{value} % ({low} to {high})"


def median(value: Any) -> float:
    return statistics.median(value) if isinstance(value, list) else value


def ratios(pair: dict[str, list[float]]) -> list[float]:
    return [ours / peer for ours, peer in zip(pair["ours"], pair["peer"], strict=True)]


def range_of(values: list[float]) -> str:
    return f"{number(min(values))} to {number(max(values))}" if len(values) > 1 else "one run"


SHOW = {
    "number": lambda value: number(median(value)),
    "count": lambda value: f"{value:,}",
    "percent": percent,
    "change": change,
    "interval": interval,
    "thousandths": lambda value: number(1000 * value),
    "inverse": lambda value: number(1 / median(value)),  # of a speed in 1/s: seconds
    "text": str,
    "ours": lambda pair: number(median(pair["ours"])),
    "peer": lambda pair: number(median(pair["peer"])),
    "ratio": lambda pair: number(median(ratios(pair))),
    "range": lambda pair: range_of(ratios(pair)),
    "both": lambda pair: f"{number(median(pair['ours']))} / {number(median(pair['peer']))}",
}


def cell(value: Any, show: str) -> str:
    """A value as one of SHOW prints it; a dash where nothing was measured."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return NONE
    return SHOW[show](value)
