"""RULER's kinds of questions about long texts, and the effective length that follows (Hsieh et al., 2024).

    recall                     the share of the expected numbers, names and words that are in the answer, over all
    recall/8192, …             by length
    recall/multi-key, …        by kind (`ruler_kinds.py`)
    effective_length           the longest length whose recall is at least `THRESHOLD`; 0: none

The threshold is RULER's: the mean of Llama2-7B-Chat at 4,096 tokens over RULER's own 13 tasks. Ours are six kinds in
words of our own, without its two tasks of questions about documents; an effective length is not one of RULER's table.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from qianwen.chat.answers import FULL_WIDTH
from qianwen.chat.digit_strings import numbers
from qianwen.eval.metrics import Estimate, Share, mean_over_groups
from qianwen.eval.task import Answer, Complete, Generate, Score, Scored, Task, TaskOptions
from qianwen.eval.tasks.long_context.haystack import Haystack, read_haystack
from qianwen.eval.tasks.long_context.prompts import PromptWriter
from qianwen.eval.tasks.long_context.ruler_kinds import DIGITS, KINDS, texts
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

SEED = 1
EXAMPLES = 10  # of each kind and length
STEPS = (1, 2, 4, 8)  # eighths of the longest length
MAX_TOKENS = 128
THRESHOLD = 0.856


class Ruler(Task):
    """A run of the first N asks about all kinds and lengths alike."""

    name = "ruler"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.writer = PromptWriter(self.name, options)
        if set(options.languages) - {"en"}:
            message = "{task} has no texts in the language {name}; choose from {names}"
            raise ConfigError(tr(message, task=self.name, name=", ".join(options.languages), names="en"))

    @cached_property
    def haystack(self) -> Haystack:
        return read_haystack(self.options.data, "en")

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        return self.writer.lengths(STEPS)

    def examples(self) -> Iterable[Generate | Complete]:
        source = texts(self.haystack, self.writer.model.tokenizer)
        for number in range(EXAMPLES):
            for length in self.lengths:
                for kind, make in KINDS.items():
                    question = make(source, random.Random(f"{SEED}/{kind}/{length}/{number}"))
                    prompt, tokens = self.writer.fit(length - MAX_TOKENS, question.filler, question.compose)
                    facts = {"target": list(question.expected), "kind": kind, "length": length, "prompt_tokens": tokens}
                    yield self.writer.example(prompt, MAX_TOKENS, facts)

    def score(self, example: Generate | Complete, answer: Answer) -> Score:
        expected, facts = example.facts["target"], example.facts
        present = [word for word in expected if word in _words(answer.text)]
        share = Share(len(present) / len(expected))
        names = ("recall", f"recall/{facts['length']}", f"recall/{facts['kind']}")
        extracted = answer.text.strip() or None
        return Score(shares=dict.fromkeys(names, share), extracted=extracted, is_right=len(present) == len(expected))

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        by_length = {length: self._recall(scored, length) for length in self.lengths}
        means = {length: mean for length, mean in by_length.items() if mean}
        value, low, high = (_longest({length: mean[place] for length, mean in means.items()}) for place in range(3))
        found = super().estimates(scored) | {"effective_length": Estimate(value, low, high, len(scored))}
        order = ("recall", *(f"recall/{part}" for part in (*self.lengths, *KINDS)), "effective_length")
        return {name: found[name] for name in order if name in found}

    def settings(self) -> Mapping[str, Any]:
        return {
            **self.writer.settings(),
            "kinds": list(KINDS),
            "text": {"origin": self.haystack.origin, "sha256": self.haystack.sha256},
            "lengths": list(self.lengths),
            "examples_per_cell": EXAMPLES,
            "seed": SEED,
            "max_tokens": MAX_TOKENS,
            "extractor": "whole words and numbers in the answer; further ones do not matter, as in RULER",
            "threshold": {"value": THRESHOLD, "source": "Llama2-7B-Chat at 4,096 tokens on the 13 tasks of RULER"},
            "grid": {"by": "", "rows": "kind", "columns": "length"},
        }

    def _recall(self, scored: Sequence[Scored], length: int) -> Estimate | None:
        """The mean of the kinds at one length, each with the same weight."""
        groups: dict[str, list[Share]] = {}
        for example, _, score in scored:
            if example.facts["length"] == length:
                groups.setdefault(example.facts["kind"], []).append(score.shares["recall"])
        return mean_over_groups(list(groups.values())) if groups else None


def _words(reply: str) -> set[str]:
    """The words of a reply: as they are written, in small letters, and its numbers as plain digits."""
    words = "".join(char if char.isalnum() else " " for char in reply.translate(FULL_WIDTH)).split()
    return {*words, *(word.lower() for word in words), *numbers(reply, DIGITS)}


def _longest(means: Mapping[int, float]) -> float:
    return float(max((length for length, mean in means.items() if mean >= THRESHOLD), default=0))
