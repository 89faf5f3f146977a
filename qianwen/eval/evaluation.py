"""Tasks put to a model, with everything in a folder, so that the same call goes on where an earlier one stopped.

The folder is that of `results.py`. It belongs to one model with its settings. Each task in it has its own settings;
another task may join later, but what is there is never mixed with answers to other settings: that is refused, and the
difference is named.
"""

import json
import os
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from qianwen.chat.model import ChatModel
from qianwen.eval.results import (
    PROGRESS,
    RESULTS,
    SETTINGS,
    AnswersFile,
    Results,
    answers_path,
    append_line,
    load_results,
    read_json,
    save_json,
)
from qianwen.eval.rows import Row, answer_row, example_row, scored_of
from qianwen.eval.runner import Outcome, check_needs, estimates, examples_of, num_workers, outcomes
from qianwen.eval.task import Example, Task
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_file, flat_config, json_text, lock
from qianwen.runtime.log import ProgressBar, console
from qianwen.runtime.translation import tr

OF_MODEL = ("model", "weights", "bits", "template", "exact", "url")  # what is repeated beside the metrics
MAX_REPORTED = 5  # errors of examples that are printed; all are in the rows


class Evaluation:
    """`tasks`, of each the first `limit` examples (0: all), with their results in `folder`.

    Everything that can be wrong with the data is an error here, before a model is loaded.
    """

    def __init__(self, tasks: Sequence[Task], folder: str | Path, *, limit: int = 0) -> None:
        self.folder = Path(folder)
        self.limit = limit
        self.tasks = {task.name: task for task in tasks}
        self.examples = {task.name: examples_of(task, limit) for task in tasks}

    def check(self, model: ChatModel) -> None:
        """ConfigError if `model` cannot do what a task needs."""
        for name, task in self.tasks.items():
            check_needs(task, model, self.examples[name])

    def run(self, model: ChatModel, settings: Mapping[str, Any], *, restart: bool = False) -> Results:
        """Ask what is not answered yet; `settings` are those of the model. `restart` discards earlier answers.

        Ctrl-C keeps all answers up to then.
        """
        self.check(model)
        with lock(self.folder):
            self._enter(settings, restart)
            for task in self.tasks.values():
                self._run_task(task, model)
            return load_results(self.folder)

    def _enter(self, settings: Mapping[str, Any], restart: bool) -> None:
        """Write the settings, if they agree with those that are there."""
        path = self.folder / SETTINGS
        wanted = json.loads(json_text(dict(settings)))
        saved = read_json(path) if path.exists() else {}
        earlier = saved.pop("tasks", {})
        own = {name: self._task_settings(task) for name, task in self.tasks.items()}
        if saved and (difference := _difference(saved, wanted)):
            self._discard(list(earlier), restart, difference)
            earlier = {}
        for name in own.keys() & earlier.keys():
            if restart or (difference := _difference({name: earlier[name]}, {name: own[name]})):
                self._discard([name], restart, {} if restart else difference)
        save_json(path, wanted | {"tasks": earlier | own})

    def _task_settings(self, task: Task) -> dict[str, Any]:
        plain = json.loads(json_text(dict(task.settings())))
        return {**plain, "chance": task.chance, "limit": self.limit}

    def _discard(self, names: Sequence[str], restart: bool, difference: Mapping[str, Any]) -> None:
        """Delete the results of tasks, if the user asked for it. ConfigError, which names the difference, if not."""
        if not restart:
            message = (
                "{folder} has results with {key} = {old}, not {new}: choose another folder with --out, or discard "
                "these results with --restart"
            )
            raise ConfigError(tr(message, folder=self.folder, **difference))
        path = self.folder / RESULTS
        if path.exists():
            saved = read_json(path)
            save_json(path, saved | {"tasks": {n: task for n, task in saved["tasks"].items() if n not in names}})
        for name in names:
            answers_path(self.folder, name).unlink(missing_ok=True)

    def _run_task(self, task: Task, model: ChatModel) -> None:
        examples = self.examples[task.name]
        with closing(AnswersFile(answers_path(self.folder, task.name))) as answers:
            done = _answered(answers, examples)
            waiting = [(index, example) for index, example in enumerate(examples) if index not in done]
            if waiting:
                self._ask(task, model, waiting, answers)
            answers.sort()
            self._save_metrics(task, answers.rows())

    def _ask(self, task: Task, model: ChatModel, waiting: list[tuple[int, Example]], answers: AnswersFile) -> None:
        """Ask the examples `waiting`; each row is written as soon as its example ends."""
        total, num_errors = len(self.examples[task.name]), 0
        began = time.monotonic()
        log = os.open(self.folder / PROGRESS, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        append_line(log, {"task": task.name, "waiting": len(waiting), "workers": num_workers(model)})
        try:
            with (
                ProgressBar(task.name, total, total - len(waiting)) as bar,
                closing(outcomes(task, model, waiting)) as ended,
            ):
                for outcome in ended:
                    answers.append(_row(outcome, self.examples[task.name][outcome.index]))
                    tokens = outcome.scored.answer.num_tokens if outcome.scored else 0
                    seconds = round(time.monotonic() - began, 3)
                    append_line(log, {"task": task.name, "index": outcome.index, "seconds": seconds, "tokens": tokens})
                    if outcome.error:
                        num_errors += 1
                        _report(task.name, outcome, num_errors)
                    bar.update(1, _description(task.name, num_errors))
        finally:
            os.close(log)
        seconds = time.monotonic() - began
        message = "{task}: {count:,} examples in {seconds:.1f} s, {errors:,} errors"
        console.print(tr(message, task=task.name, count=len(waiting), seconds=seconds, errors=num_errors))

    def _save_metrics(self, task: Task, rows: Mapping[int, Row]) -> None:
        """Add the task to `results.json`. The scores are those of the rows, so it does not matter when they came."""
        examples, path = self.examples[task.name], self.folder / RESULTS
        scored = [scored_of(row, examples[index]) for index, row in sorted(rows.items()) if "error" not in row]
        for name, text in task.files(scored).items():
            with atomic_file(self.folder / name, "w") as file:
                file.write(text)
        settings = read_json(self.folder / SETTINGS)
        tasks = read_json(path)["tasks"] if path.exists() else {}
        tasks[task.name] = {
            "metrics": estimates(task, scored),
            "chance": task.chance,
            "settings": settings["tasks"][task.name],
            "num_examples": len(examples),
            "num_errors": len(examples) - len(scored),
        }
        of_model = {name: settings[name] for name in OF_MODEL if name in settings}
        save_json(path, of_model | {"tasks": dict(sorted(tasks.items()))})


def _answered(answers: AnswersFile, examples: Sequence[Example]) -> set[int]:
    """The indices of the examples that have an answer. DataError if a row is of another example."""
    done = set()
    for index, row in answers.rows().items():
        is_there = 0 <= index < len(examples)
        expected = json.loads(json_text(example_row(index, examples[index]))) if is_there else {}
        if not is_there or any(row.get(name) != value for name, value in expected.items()):
            message = (
                "{path}, example {index}: the question differs from the one in the data now. If the data has changed, "
                "use --restart"
            )
            raise DataError(tr(message, path=answers.path, index=index))
        if "error" not in row:
            done.add(index)
    return done


def _row(outcome: Outcome, example: Example) -> Row:
    if outcome.scored:
        return answer_row(outcome.index, outcome.scored)
    return example_row(outcome.index, example) | {"error": str(outcome.error)}


def _report(task: str, outcome: Outcome, num_errors: int) -> None:
    """Print the first errors."""
    if num_errors <= MAX_REPORTED:
        message = tr("{task}, example {index}: {error}", task=task, index=outcome.index, error=outcome.error)
        console.print(message, style="yellow", markup=False)
    elif num_errors == MAX_REPORTED + 1:
        console.print(tr("further errors are only in the rows of the results"), style="yellow")


def _description(task: str, num_errors: int) -> str:
    return tr("{task} ({errors:,} errors)", task=task, errors=num_errors) if num_errors else task


def _difference(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """The first setting that differs, as `key`, `old` and `new`; empty if none does. A limit may grow."""
    old, new = flat_config(dict(saved)), flat_config(dict(wanted))
    for key in sorted(old.keys() | new.keys()):
        is_limit = key.endswith(".limit")
        grows = is_limit and old.get(key) and (not new.get(key) or new[key] >= old[key])
        if old.get(key) != new.get(key) and not grows:
            return {"key": key, "old": old.get(key), "new": new.get(key)}
    return {}
