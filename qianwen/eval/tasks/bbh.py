"""BIG-Bench Hard (Suzgun et al., 2022): 27 tasks, each with a published prompt of three examples, for base models.

    bbh/TASK.json           {"examples": [{"input": …, "target": …}, …]}
    cot-prompts/TASK.txt    a notice, a line of dashes, the task in a sentence, the examples ("So the answer is X.")

The answer is the text after "the answer is", without the final period. It must be the target, letter by letter; for
questions with options the letter in brackets is enough. The result is the mean over the tasks.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path, PurePosixPath
from typing import Any

from qianwen.eval.data_files import find, members
from qianwen.eval.metrics import Estimate, Share, mean_over_groups
from qianwen.eval.task import Answer, Complete, Score, Scored, Task, TaskOptions
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

QUESTION = "Q: {input}\nA: Let's think step by step.\n"
STOPS = ("<|endoftext|>", "\n\nQ:", "\nQ:")
MAX_TOKENS = 512
PUBLISHED_SHOTS = 3
NOTICE = re.compile(r"\A.*?^-{3,}[ \t]*\n", re.S | re.M)
STATED = re.compile(r".*\banswer is:?[ \t]*([^\n]+)", re.I)


class Bbh(Task):
    """The tasks of a folder or archive; a run of the first N asks about every task alike."""

    name = "bbh"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.num_shots = PUBLISHED_SHOTS if options.shots is None else options.shots

    def examples(self) -> Iterable[Complete]:
        tasks = [self._task(name, file, text) for name, file, text in self._files]
        return (example for example in chain.from_iterable(zip_longest(*tasks)) if example)

    def score(self, example: Complete, answer: Answer) -> Score:
        target = example.facts["target"]
        extracted = stated_answer(answer.text, target)
        share = Share(float(extracted == target))
        return Score(
            shares={f"accuracy/{example.facts['task']}": share}, extracted=extracted, is_right=bool(share.amount)
        )

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        by_task = super().estimates(scored)
        groups = [[score.shares[name] for *_, score in scored if name in score.shares] for name in by_task]
        return {"accuracy": mean_over_groups(groups)} | by_task

    def settings(self) -> dict[str, Any]:
        return {
            "protocol": f"base, {self.num_shots}-shot, mean over tasks",
            "template": "{task's prompt}\n\n" + QUESTION,
            "shots": {"source": "the first examples of cot-prompts/TASK.txt", "text": self._prompts},
            "stop": list(STOPS),
            "max_tokens": MAX_TOKENS,
            "decoding": "greedy",
            "extractor": {"name": "the text after 'the answer is'"},
        }

    @cached_property
    def _root(self) -> Path:
        return find(self.options.data, ("BIG-Bench-Hard*", "bbh.zip"), inside=("bbh/*.json",))

    @cached_property
    def _files(self) -> list[tuple[str, str, str]]:
        """Name, file and text of each task."""
        files = [
            (PurePosixPath(name).stem, f"{self._root}/{name}", text) for name, text in members(self._root, "bbh/*.json")
        ]
        if not files:
            raise DataError(tr("{path} contains no file {expected}", path=self._root, expected="bbh/TASK.json"))
        return files

    @cached_property
    def _prompts(self) -> dict[str, str]:
        """The prompt of each task with its first `num_shots` examples."""
        if self.num_shots > PUBLISHED_SHOTS:
            raise ConfigError(
                tr("{task} has {number} worked examples; choose at most as many", task=self.name, number=3)
            )
        prompts = {}
        for file, text in members(self._root, "cot-prompts/*.txt"):
            description, *examples = re.split(r"\n\s*\n(?=Q:)", NOTICE.sub("", text).strip())
            if len(examples) < self.num_shots:
                message = "{path} has {count} worked examples, but {number} are needed; see --shots"
                path = f"{self._root}/{file}"
                raise DataError(tr(message, path=path, count=len(examples), number=self.num_shots))
            prompts[PurePosixPath(file).stem] = "\n\n".join([description, *examples[: self.num_shots]])
        return prompts

    def _task(self, name: str, file: str, text: str) -> Iterator[Complete]:
        if name not in self._prompts:
            expected = f"cot-prompts/{name}.txt"
            raise DataError(tr("{path} contains no file {expected}", path=self._root, expected=expected))
        for row in _rows(file, text):
            prompt = f"{self._prompts[name]}\n\n{QUESTION.format(input=row['input'])}"
            facts = {"task": name, "target": row["target"].strip()}
            yield Complete(prompt=prompt, stop=STOPS, max_tokens=MAX_TOKENS, facts=facts)


def stated_answer(text: str, target: str) -> str | None:
    """The text after the last "the answer is"; the letter of an option "(B) …" if the target is one."""
    stated = STATED.findall(text)
    if not stated:
        return None
    answer = re.sub(r"^[\s*]+|[\s*.]+$", "", stated[-1])
    if re.fullmatch(r"\([A-Z]\)", target) and (option := re.match(r"\(?([A-Z])\)?(?![A-Za-z])", answer)):
        return f"({option[1]})"
    return answer


def _rows(file: str, text: str) -> list[dict[str, str]]:
    try:
        rows = json.loads(text)["examples"]
        if rows and all(isinstance(row["input"], str) and isinstance(row["target"], str) for row in rows):
            return rows
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(tr("{path} must be {layout}", path=file, layout='{"examples": [{"input": "…", "target": "…"}, …]}'))
