"""Prompts that have, with the answer, a given number of tokens of the model's own vocabulary.

A chat model gets the text as the message of a user. A base model gets it with the beginning of the answer after it, and
its answer ends with the line.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from qianwen.chat.messages import Message
from qianwen.chat.render import render
from qianwen.eval.task import Complete, Generate, PromptModel, TaskOptions
from qianwen.eval.tasks.long_context.haystack import Filler
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr

MOST = 8192  # the longest of the lengths that are used by default
STEPS = 8


class Prompt(NamedTuple):
    """The text before the answer, and how the answer of a base model begins."""

    text: str
    opening: str


class PromptWriter:
    """Writes prompts for one model."""

    def __init__(self, task: str, options: TaskOptions) -> None:
        self.task, self.options = task, options

    @cached_property
    def model(self) -> PromptModel:
        if self.options.model is None:
            message = "{task} needs the tokenizer: a model that runs here, not one behind a URL"
            raise ConfigError(tr(message, task=self.task))
        return self.options.model()

    def lengths(self, steps: Sequence[int] = range(1, STEPS + 1)) -> tuple[int, ...]:
        """The lengths that the user chose; else `steps` eighths of the model's context, at most of `MOST` tokens."""
        chosen = self.options.lengths
        if not chosen:
            return tuple(step * min(MOST, self.model.max_len) // STEPS for step in steps)
        if too_long := [length for length in chosen if length > self.model.max_len]:
            message = "{task}: the length {length:,} is more than the {limit:,} tokens that the model reads"
            raise ConfigError(tr(message, task=self.task, length=max(too_long), limit=self.model.max_len))
        return tuple(sorted(set(chosen)))

    def num_tokens(self, prompt: Prompt) -> int:
        """The tokens of the whole prompt, the chat template included."""
        if not self.model.is_chat:
            return len(self.model.tokenizer.encode(prompt.text + prompt.opening))
        message = Message("user", prompt.text)
        return len(render([message], self.model.tokenizer, add_generation_prompt=True).ids)

    def fit(self, room: int, filler: Filler, compose: Callable[[Sequence[str]], Prompt]) -> tuple[Prompt, int]:
        """The prompt with the most pieces of `filler` that has at most `room` tokens, and the number of its tokens.

        `compose` makes the prompt with the given pieces in it.
        """
        least = self.num_tokens(compose(()))
        if least >= room:
            message = "{task}: the question alone has {least:,} tokens, but {room:,} fit: choose longer lengths"
            raise DataError(tr(message, task=self.task, least=least, room=room))
        number = filler.num_within(room - least)
        while (length := self.num_tokens(prompt := compose(filler.pieces[:number]))) > room:
            number -= max(1, (length - room) // 16)  # a text may have a few tokens more than its pieces
        return prompt, length

    def example(
        self, prompt: Prompt, max_tokens: int, facts: Mapping[str, Any], cluster: str = ""
    ) -> Generate | Complete:
        """The prompt as it is put to the model."""
        limits = {"max_tokens": max_tokens, "facts": facts, "cluster": cluster}
        if self.model.is_chat:
            return Generate(messages=[Message("user", prompt.text)], **limits)
        return Complete(prompt=prompt.text + prompt.opening, stop=("\n",), **limits)

    def settings(self) -> dict[str, Any]:
        """How the model is asked."""
        kind = "chat: one message" if self.model.is_chat else "base: the text is continued to the end of the line"
        return {"protocol": f"{kind}, greedy", "length": "tokens of the prompt, with its template, and of the answer"}


def with_facts(sentences: Sequence[str], space: str, ends: Sequence[int], facts: Mapping[int, Sequence[str]]) -> str:
    """The sentences with facts between them: `facts` has those at each depth, in percent of the tokens.

    `ends` are the tokens of the first n sentences. A fact stands after the sentence whose end is nearest to its depth.
    """
    pieces: list[str] = []
    total, begin = ends[len(sentences)], 0
    for depth in sorted(facts):
        place = min(range(len(sentences) + 1), key=lambda n: abs(100 * ends[n] - depth * total))
        pieces += [*sentences[begin:place], *facts[depth]]
        begin = place
    return space.join([*pieces, *sentences[begin:]])
