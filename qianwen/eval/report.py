"""Results for people and for programs: a table on the console, a JSON file, a table on a page."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.table import Table

from qianwen.eval.metrics import Estimate
from qianwen.eval.runner import Result
from qianwen.eval.task import Choice, Complete, Episode, Example, Generate
from qianwen.runtime.files import atomic_file
from qianwen.runtime.page import Page
from qianwen.runtime.translation import tr

UNSET: tuple[Any, ...] = ((), {})  # fields that this kind of answer does not use are left out of the file


def console_table(results: Sequence[Result]) -> Table:
    """Task, metric, value with its interval, number of examples."""
    table = Table(tr("task"), tr("metric"), tr("value"), tr("95 % interval"), tr("examples"), box=None)
    for row in _rows(results):
        table.add_row(*row)
    return table


def add_to_page(page: Page, results: Sequence[Result]) -> None:
    """The same table on a page."""
    page.table([tr("task"), tr("metric"), tr("value"), tr("95 % interval"), tr("examples")], _rows(results))


def save_results(path: str | Path, results: Sequence[Result], model: str) -> None:
    """Everything: the metrics, every question with its answer, and the model they are of."""
    with atomic_file(path, "w") as file:
        json.dump(
            {"model": model, "results": [_plain(result) for result in results]}, file, ensure_ascii=False, indent=1
        )


def load_metrics(path: str | Path) -> dict[str, dict[str, Estimate]]:
    """Task → metric → estimate, of a file that `save_results` wrote."""
    saved = json.loads(Path(path).read_text(encoding="utf-8"))
    return {one["task"]: {name: Estimate(*value) for name, value in one["metrics"].items()} for one in saved["results"]}


def _rows(results: Sequence[Result]) -> list[list[str]]:
    return [
        [result.task, metric, f"{e.value:.4g}", f"{e.low:.4g} – {e.high:.4g}", f"{e.num_examples:,}"]
        for result in results
        for metric, e in result.metrics.items()
    ]


def _plain(result: Result) -> dict[str, Any]:
    answered = []
    for example, answer, _ in result.scored:
        saved = {"asked": _asked(example), "facts": dict(example.facts)}
        answered.append(
            saved | {name: value for name, value in dataclasses.asdict(answer).items() if value not in UNSET}
        )
    return {"task": result.task, "metrics": result.metrics, "answered": answered}


def _asked(example: Example) -> list[str] | None:
    """The texts that the model was given before its first reply; of a likelihood none."""
    match example:
        case Generate() | Episode():
            return [message.text for message in example.messages]
        case Complete():
            return [example.prompt]
        case Choice():
            return [example.context]
        case _:
            return None
