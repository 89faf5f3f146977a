"""MBPP (Austin et al., 2021): short functions described in a sentence, with three assertions that they must satisfy.

    mbpp.jsonl             974 rows: task_id, text, code, test_list, test_setup_code
    sanitized-mbpp.json    one list of 427 rows: task_id, prompt, code, test_list, test_imports

Base models, 3 worked examples: tasks 2, 3 and 4 of the file, as the authors chose them; the questions are tasks 11 to
510. The prompt shows the assertions, and the answer ends at [DONE].
"""

import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from qianwen.eval.data_files import find, json_rows, read_text
from qianwen.eval.task import Answer, Complete, Score, Task, TaskOptions
from qianwen.eval.tasks.programs import Judge, decoding, decoding_settings
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

NAMES = ("mbpp.jsonl", "mbpp/mbpp.jsonl", "sanitized-mbpp.json", "mbpp/sanitized-mbpp.json")
SHOTS = (2, 3, 4)  # tasks 1 to 10 are for prompts
FURTHER_SHOTS = (1, 5, 6, 7, 8, 9, 10)
TEST_TASKS = range(11, 511)
QUESTION = (
    "You are an expert Python programmer, and here is your task: {text} Your code should pass these tests:\n\n{tests}\n"
    "[BEGIN]\n"
)
STOPS = ("<|endoftext|>", "[DONE]")
MAX_TOKENS = 512


class Mbpp(Task):
    """The test tasks, each after the worked examples."""

    name = "mbpp"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.num_shots = len(SHOTS) if options.shots is None else options.shots
        self.judge = Judge(options.sandbox)

    @cached_property
    def rows(self) -> dict[int, dict[str, Any]]:
        """The rows of the file by their number."""
        path = find(self.options.data, NAMES)
        if path.suffix == ".json":
            try:
                rows = json.loads(read_text(path))
            except ValueError as error:
                raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error
        else:
            rows = json_rows(path, {"task_id": int})
        for number, row in enumerate(rows, start=1):
            if not _is_row(row):
                message = "{path}, row {number}: `task_id`, `text` or `prompt`, `code` and `test_list` are needed"
                raise DataError(tr(message, path=path, number=number))
        return {row["task_id"]: row for row in rows}

    @cached_property
    def shots(self) -> list[int]:
        """The tasks that are the worked examples, in their order."""
        chosen = [number for number in (*SHOTS, *FURTHER_SHOTS) if number in self.rows][: self.num_shots]
        if len(chosen) < self.num_shots:
            message = "{path} has {count} worked examples, but {number} are needed; see --shots"
            raise DataError(tr(message, path=find(self.options.data, NAMES), count=len(chosen), number=self.num_shots))
        return chosen

    @cached_property
    def prompt(self) -> str:
        """The worked examples, each followed by a blank line."""
        rows = (self.rows[number] for number in self.shots)
        return "".join(f"{_question(row)}{row['code'].strip()}\n[DONE]\n\n" for row in rows)

    def examples(self) -> Iterable[Complete]:
        self.judge.open()  # refuse before the first question
        if not (numbers := [number for number in self.rows if number in TEST_TASKS]):
            path = find(self.options.data, NAMES)
            raise DataError(tr("{path} has no row with a `task_id` from 11 to 510", path=path))
        for number in numbers:
            row = self.rows[number]
            facts = {"task_id": number, "tests": _tests(row)}
            prompt = self.prompt + _question(row)
            yield Complete(prompt=prompt, stop=STOPS, max_tokens=MAX_TOKENS, facts=facts, **decoding(self.options))

    def score(self, example: Complete, answer: Answer) -> Score:
        return self.judge.score(answer, example.facts["tests"], lambda text: text.strip() or None)

    def settings(self) -> dict[str, Any]:
        return {
            "protocol": f"base, {self.num_shots}-shot",
            "template": QUESTION,
            "shots": {"source": f"tasks {self.shots}, in this order", "text": self.prompt},
            "stop": list(STOPS),
            "max_tokens": MAX_TOKENS,
            **decoding_settings(self.options),
            **self.judge.settings(),
        }


def _is_row(row: Any) -> bool:
    return (
        isinstance(row, dict)
        and isinstance(row.get("task_id"), int)
        and isinstance(row.get("text", row.get("prompt")), str)
        and isinstance(row.get("code"), str)
        and isinstance(row.get("test_list"), list)
        and bool(row["test_list"])
    )


def _question(row: Mapping[str, Any]) -> str:
    return QUESTION.format(text=row.get("text", row.get("prompt")), tests="\n".join(row["test_list"]))


def _tests(row: Mapping[str, Any]) -> str:
    """The assertions, after what the row says they need."""
    return "\n".join([row.get("test_setup_code") or "", *(row.get("test_imports") or []), *row["test_list"]])
