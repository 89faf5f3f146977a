"""Counters, gauges and histograms in Prometheus' text format.

Labels come from fixed sets (route templates, status codes, model names of this server), never from a client's text. So
the metrics cannot leak a prompt and their number is bounded.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
PREFIX = "qianwen_"
ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


def _labels(labels: tuple[tuple[str, str], ...]) -> str:
    escaped = (f'{name}="{value.translate(ESCAPES)}"' for name, value in labels)
    return "{" + ",".join(escaped) + "}" if labels else ""


class Metrics:
    """A set of named metrics; `text()` is the response of `/metrics`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[str, dict[tuple, float]] = defaultdict(lambda: defaultdict(float))
        self._histograms: dict[str, tuple[list[int], list[float]]] = {}
        self._gauges: dict[str, Callable[[], float]] = {}

    def count(self, name: str, value: float = 1, **labels: str) -> None:
        with self._lock:
            self._counters[name][tuple(sorted(labels.items()))] += value

    def observe(self, name: str, seconds: float) -> None:
        """Add a duration to histogram `name`."""
        with self._lock:
            buckets, total = self._histograms.setdefault(name, ([0] * (len(SECONDS) + 1), [0.0]))
            buckets[bisect_left(SECONDS, seconds)] += 1
            total[0] += seconds

    def gauge(self, name: str, read: Callable[[], float]) -> None:
        """Register gauge `name`; `read` returns its value at every scrape."""
        self._gauges[name] = read

    def text(self) -> str:
        lines: list[str] = []
        with self._lock:
            for name, series in self._counters.items():
                lines.append(f"# TYPE {PREFIX}{name} counter")
                lines += [f"{PREFIX}{name}{_labels(labels)} {value:g}" for labels, value in series.items()]
            for name, (buckets, total) in self._histograms.items():
                lines.append(f"# TYPE {PREFIX}{name} histogram")
                total_count = 0  # Prometheus' buckets are cumulative
                for bound, amount in zip([*map(str, SECONDS), "+Inf"], buckets, strict=True):
                    total_count += amount
                    lines.append(f'{PREFIX}{name}_bucket{{le="{bound}"}} {total_count}')
                lines += [f"{PREFIX}{name}_sum {total[0]:.6f}", f"{PREFIX}{name}_count {total_count}"]
        for name, read in self._gauges.items():
            lines += [f"# TYPE {PREFIX}{name} gauge", f"{PREFIX}{name} {read():g}"]
        return "\n".join(lines) + "\n"
