"""Which way of computing a linear is the fastest for how many rows: measured once on a machine, kept with the library.

    few     weights unpacked into registers      (vectors; for int8 and bf16: what vectors do without AMX)
    some    weights as bytes                     (tiles of VNNI or AMX)
    above   bytes with wider scales, bfloat16 for bf16 weights    (tiles of AMX)

No table of processors: half a second of trying every way on zeros. Without AMX the last way does not exist, and trying
it is trying the second.
"""

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from qianwen.runtime.files import atomic_file

ROWS = (1, 2, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128)
TRIALS = 5
ALL_ROWS = 1 << 40


class Limits(NamedTuple):
    """Up to `few` rows go the first way, up to `some` the second."""

    few: int
    some: int


ONE_WAY = Limits(ALL_ROWS, ALL_ROWS)  # a row's bits do not depend on the rows beside it
WAYS = (ONE_WAY, Limits(0, ALL_ROWS), Limits(0, 0))


def limits(folder: Path, formats: list[str], run: Callable[[str, int, Limits], None]) -> dict[str, Limits]:
    """The limits of each format. `run(format, rows, limits)` computes once."""
    path = folder / "limits.json"
    if path.exists():
        return {format: Limits(*pair) for format, pair in json.loads(path.read_text(encoding="utf-8")).items()}
    found = {format: _limits(lambda rows, way, f=format: run(f, rows, way)) for format in formats}
    with suppress(OSError), atomic_file(path, "w") as file:  # a cache that cannot be written: measured at every start
        json.dump(found, file)
    return found


def _limits(run: Callable[[int, Limits], None]) -> Limits:
    """Each way ends where a later one is the faster for this number of rows and the next larger."""
    seconds = [[_seconds(run, rows, way) for way in WAYS] for rows in ROWS]
    few = _last([first <= min(later) for first, *later in seconds])
    some = _last([min(first, second) <= third for first, second, third in seconds])
    return Limits(few, max(few, some))


def _last(wins: list[bool]) -> int:
    """The rows up to which a way wins: all that were tried, and it wins at the largest too, means always."""
    lost = next((index for index in range(len(ROWS)) if not any(wins[index : index + 2])), len(ROWS))
    return ALL_ROWS if lost == len(ROWS) else ROWS[lost - 1] if lost else 0


def _seconds(run: Callable[[int, Limits], None], rows: int, way: Limits) -> float:
    best = float("inf")
    for _ in range(TRIALS):
        start = time.perf_counter()
        run(rows, way)
        best = min(best, time.perf_counter() - start)
    return best
