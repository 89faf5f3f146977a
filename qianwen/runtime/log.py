"""Numbers while they happen: one console line and one line of `metrics.jsonl` for each step logged.

The file survives what training survives: a line cut by a kill is dropped on the next start, lines beyond the step a run
resumes from are dropped too, and a full disk costs lines but never the run.
"""

import datetime
import json
import math
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from qianwen.runtime.distributed import is_main
from qianwen.runtime.files import atomic_file
from qianwen.runtime.translation import tr

T = TypeVar("T")
LINE_SECONDS = 10.0  # between two lines of progress where there is no terminal

console = Console(highlight=False, soft_wrap=True)
notices = Console(stderr=True, highlight=False, soft_wrap=True)  # remarks that do not belong in a command's output


class MetricsLog:
    """Appends to `path`; only the main process writes or prints.

    `resume_step` drops the lines of later steps, which the resumed run is about to write again.
    """

    def __init__(self, path: str | Path, *, resume_step: int | None = None) -> None:
        self.path = Path(path)
        self._complaint = ""
        if is_main():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._repair(resume_step)

    def log(self, *, step: int, **metrics: float | int | str) -> None:
        """Print and append one row. A value may also be a one-element tensor."""
        if not is_main():
            return
        row = {"step": step} | {name: _scalar(value) for name, value in metrics.items()}
        console.print(metrics_line(row))
        finite = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
        self._append(json.dumps(finite | {"time": round(time.time(), 3)}, ensure_ascii=False) + "\n")

    def _append(self, line: str) -> None:
        try:
            with self.path.open("ab", buffering=0) as file:
                end = file.tell()
                data = line.encode("utf-8")
                if file.write(data) != len(data):  # a full disk may take only half a line
                    file.truncate(end)
                    raise OSError(f"no space for {self.path}")
            self._complaint = ""
        except OSError as error:
            if str(error) != self._complaint:  # once, not at every step
                console.print(tr("metrics cannot be saved: {error}", error=error), style="red")
            self._complaint = str(error)

    def _repair(self, resume_step: int | None) -> None:
        """Keep the complete rows up to `resume_step`."""
        if not self.path.exists():
            return
        data = self.path.read_bytes()
        kept = [line for line in data.splitlines(keepends=True) if _is_kept(line, resume_step)]
        if b"".join(kept) != data:
            with atomic_file(self.path) as file:
                file.writelines(kept)


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The complete rows of a metrics file, which may be growing. None where a value was not finite."""
    if not Path(path).exists():
        return []
    return [json.loads(line) for line in Path(path).read_bytes().splitlines(keepends=True) if _is_kept(line, None)]


def displayed_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The rows as people read them: `loss` is the mean since the row before, where the row has it (`mean_loss`).

    The loss of the one step at which a row was written says little; it stays in the file under its old name.
    """
    return [_averaged(row) for row in read_metrics(path)]


def _averaged(row: dict[str, Any]) -> dict[str, Any]:
    if "mean_loss" not in row:
        return row
    return {name: row["mean_loss"] if name == "loss" else v for name, v in row.items() if name != "mean_loss"}


class ProgressBar:
    """How far a loop is: a bar on a terminal, and elsewhere a line every ten seconds."""

    def __init__(self, description: str, total: int | None, completed: int = 0) -> None:
        self.description, self.total, self.completed = description, total, completed
        self._at_start = completed
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task(description, total=total, completed=completed)
        self._began = self._printed = time.monotonic()

    def __enter__(self) -> "ProgressBar":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def update(self, advance: int = 0, description: str | None = None) -> None:
        """Count `advance` more; also called without, while the loop works on an item that takes long."""
        self.completed += advance
        self.description = description or self.description
        self._bar.update(self._task, advance=advance, description=self.description)
        if not console.is_terminal and time.monotonic() - self._printed >= LINE_SECONDS:
            self._printed = time.monotonic()
            console.print(self._line(), markup=False)

    def _line(self) -> str:
        if self.total is None:
            return f"{self.description}: {self.completed:,}"
        counts = {"description": self.description, "completed": self.completed, "total": self.total}
        done = self.completed - self._at_start
        if not done:
            return tr("{description}: {completed:,} of {total:,}", **counts)
        seconds = (self._printed - self._began) / done * (self.total - self.completed)
        left = str(datetime.timedelta(seconds=round(seconds)))
        return tr("{description}: {completed:,} of {total:,}, {left} left", **counts, left=left)


def progress(iterable: Iterable[T], total: int | None, description: str) -> Iterator[T]:
    """Iterate with a `ProgressBar`, and print one closing line."""
    start = time.perf_counter()
    with ProgressBar(description, total) as bar:
        for item in iterable:
            yield item
            bar.update(1)
    seconds = time.perf_counter() - start
    console.print(
        tr("{description}: {count:,} in {seconds:.1f} s", description=description, count=bar.completed, seconds=seconds)
    )


def _is_kept(line: bytes, resume_step: int | None) -> bool:
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return False
    if not isinstance(step, int):
        return False
    return line.endswith(b"\n") and (resume_step is None or step <= resume_step)


def _scalar(value: object) -> float | int | str:
    return value if isinstance(value, (bool, int, str)) else float(value)  # type: ignore[arg-type]


def metrics_line(row: dict[str, float | int | str]) -> Text:
    """`step 120  loss 2.314  lr 0.0003`, names dim on a terminal; the loss as in `displayed_metrics`."""
    line = Text()
    for name, value in _averaged(row).items():
        shown = f"{value:,}" if isinstance(value, int) else f"{value:.4g}" if isinstance(value, float) else str(value)
        line.append(f"{name} ", style="dim").append(shown + "  ")
    line.rstrip()
    return line
