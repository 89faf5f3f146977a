"""Where the way of few rows stops being the faster one: measured once on this machine and kept beside the library.

No table of processors: a fifth of a second of trying both ways on zeros, for every format that has two.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from qianwen.runtime.files import atomic_file

ROWS = (8, 12, 16, 24, 32, 48)
TRIALS = 5


def few_rows(folder: Path, formats: list[str], run: Callable[[str, int, bool], None]) -> dict[str, int]:
    """The largest of `ROWS` at which few rows is faster, for each format. `run(format, rows, as_few)` computes once."""
    path = folder / "few_rows.json"
    if path.exists():
        return json.loads(path.read_text(encoding="utf-8"))
    limits = {format: _limit(lambda rows, as_few, f=format: run(f, rows, as_few)) for format in formats}
    with atomic_file(path, "w") as file:
        json.dump(limits, file)
    return limits


def _limit(run: Callable[[int, bool], None]) -> int:
    faster = [rows for rows in ROWS if _seconds(run, rows, True) <= _seconds(run, rows, False)]
    return max(faster, default=ROWS[0] // 2)


def _seconds(run: Callable[[int, bool], None], rows: int, as_few: bool) -> float:
    best = float("inf")
    for _ in range(TRIALS):
        start = time.perf_counter()
        run(rows, as_few)
        best = min(best, time.perf_counter() - start)
    return best
