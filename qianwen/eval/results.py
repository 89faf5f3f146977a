"""The folder of an evaluation: settings, every answer, the metrics. A killed run loses at most the row it was writing.

    settings.json          what was measured: model, weights, bits, versions, machine, and the settings of each task
    answers/TASK.jsonl     one row for each example, appended as its answer arrives, sorted by index when the task ends
    progress.jsonl         when each answer arrived and how many tokens it took
    results.json           the metrics of the finished tasks

`rows.py` says what a row has. Times and paths are in `progress.jsonl` and `settings.json` only, so two equal runs write
the same answers and results.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qianwen.eval.metrics import Estimate
from qianwen.eval.rows import Row
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import atomic_file, json_text, read_jsonl, repair_jsonl, write_jsonl
from qianwen.runtime.translation import tr

SETTINGS, RESULTS, PROGRESS, ANSWERS = "settings.json", "results.json", "progress.jsonl", "answers"
SYNC_SECONDS = 5.0  # between two calls of fsync: what a power failure may cost; a killed process loses no whole row


@dataclass(frozen=True)
class TaskResults:
    """The metrics of one finished task, and its rows in the order of the examples."""

    name: str
    metrics: dict[str, Estimate]
    chance: float | None
    settings: dict[str, Any]
    num_examples: int
    num_errors: int
    path: Path  # the file of its rows

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of all examples, those with an error included."""
        return list(read_jsonl(self.path))


@dataclass(frozen=True)
class Results:
    """A folder of results: `settings` of the model, and the finished tasks by name."""

    folder: Path
    settings: dict[str, Any]
    tasks: dict[str, TaskResults]


def load_results(folder: str | Path) -> Results:
    """The finished tasks in `folder`. Raises DataError if it has no results."""
    folder = Path(folder)
    saved = read_json(folder / RESULTS)
    try:
        tasks = {
            name: TaskResults(
                name=name,
                metrics={metric: Estimate(*values) for metric, values in task["metrics"].items()},
                chance=task["chance"],
                settings=task["settings"],
                num_examples=task["num_examples"],
                num_errors=task["num_errors"],
                path=answers_path(folder, name),
            )
            for name, task in saved["tasks"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(tr("{path} is not a file of results: {error}", path=folder / RESULTS, error=error)) from error
    return Results(folder, read_json(folder / SETTINGS), tasks)


def answers_path(folder: Path, task: str) -> Path:
    """The file with the rows of a task."""
    return folder / ANSWERS / f"{task}.jsonl"


def save_json(path: Path, value: object) -> None:
    """Write `value` in one form only, so that equal values are equal files."""
    with atomic_file(path, "w") as file:
        file.write(json_text(value, indent=1) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file that `save_json` wrote. Raises DataError."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        message = "{folder} contains no results: there is no {name}; `qianwen eval MODEL TASK --out {folder}` writes it"
        raise DataError(tr(message, folder=path.parent, name=path.name)) from error
    except ValueError as error:
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error


class AnswersFile:
    """The growing file of one task's rows. One thread writes it."""

    def __init__(self, path: Path) -> None:
        """Open `path`; half a row, left by a kill, is cut off."""
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_jsonl(path)
        self.path = path
        self._file = path.open("ab", buffering=0)
        self._synced = time.monotonic()

    def rows(self) -> dict[int, Row]:
        """The rows by index; the later one where an example has two, because it ended with an error before."""
        try:
            return {int(row["index"]): row for row in read_jsonl(self.path)}
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(tr("{path} is not a file of answers: {error}", path=self.path, error=error)) from error

    def append(self, row: Row) -> None:
        """Write one row. It is in the hands of the operating system when this returns."""
        append_line(self._file.fileno(), row)
        if time.monotonic() - self._synced > SYNC_SECONDS:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def sort(self) -> None:
        """Rewrite the file in the order of the examples, with one row for each."""
        rows = self.rows()
        self.close()
        write_jsonl(self.path, (rows[index] for index in sorted(rows)))

    def close(self) -> None:
        self._file.close()


def append_line(descriptor: int, row: Mapping[str, Any]) -> None:
    """Append a row with as few writes as the system allows, which is one unless the disk is full."""
    data = memoryview(json_text(row).encode("utf-8") + b"\n")
    while data:
        data = data[os.write(descriptor, data) :]
