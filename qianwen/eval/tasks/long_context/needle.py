"""Needle in a haystack: one fact at a depth in a text of a length, and a question about it at the end.

    accuracy               all cells
    accuracy/en, …/zh      by language
    accuracy/8192, …       by length

The fact is a number of seven digits of a place, as "The pass number of the old mill is 7412096."; number and place
differ from cell to cell. The text is that of `haystack.py`. Every text of a language begins alike, and the deepest
facts of the longest texts are asked first, so that the engine reads the text before a fact only once.
"""

import random
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from qianwen.chat.digit_strings import stated_number
from qianwen.eval.metrics import Estimate, Share
from qianwen.eval.reader_cases.rates import extractor
from qianwen.eval.task import Answer, Complete, Generate, Score, Scored, Task, TaskOptions
from qianwen.eval.tasks.long_context.haystack import Haystack, filler, read_haystack
from qianwen.eval.tasks.long_context.prompts import Prompt, PromptWriter, with_facts
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

SEED = 1
DEPTHS = tuple(range(0, 101, 10))  # percent
DIGITS = 7
MAX_TOKENS = 48


class Wording(NamedTuple):
    """The texts of one language."""

    before: str
    fact: str
    question: str
    answer: str  # what follows the question for a base model
    opening: str  # how its answer begins
    places: tuple[str, ...]


WORDINGS = {
    "en": Wording(
        before="A pass number is hidden in the text below. Remember it; the question about it comes after the text.",
        fact="The pass number of the {place} is {key}.",
        question="What is the pass number of the {place} in the text above? Answer with the number only.",
        answer="Answer:",
        opening=" The pass number of the {place} is",
        places=("old mill", "north gate", "city library", "railway depot", "grain store", "harbour office",
                "south tower", "post house"),
    ),
    "zh": Wording(
        before="下面的文章中有一句话给出了一个通行号码。请记住它，文章之后会提问。",
        fact="{place}的通行号码是{key}。",
        question="上面文章中{place}的通行号码是多少？只回答号码。",
        answer="答：",
        opening="{place}的通行号码是",
        places=("旧磨坊", "北城门", "市图书馆", "铁路货场", "粮库", "港务局", "南塔楼", "驿站"),
    ),
}  # fmt: skip


class Needle(Task):
    """One example for each language, length and depth; a run of the first N takes lengths and depths from all over."""

    name = "needle"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.writer = PromptWriter(self.name, options)
        self.languages = options.languages or tuple(WORDINGS)
        if unknown := [language for language in self.languages if language not in WORDINGS]:
            message = "{task} has no texts in the language {name}; choose from {names}"
            raise ConfigError(tr(message, task=self.name, name=unknown[0], names=", ".join(WORDINGS)))

    @cached_property
    def haystacks(self) -> dict[str, Haystack]:
        return {language: read_haystack(self.options.data, language) for language in self.languages}

    def examples(self) -> Iterable[Generate | Complete]:
        cells = [(n, length, depth) for n in self.languages for length in self.writer.lengths() for depth in DEPTHS]
        fillers = {
            language: filler(haystack.sentences, haystack.space, self.writer.model.tokenizer)
            for language, haystack in self.haystacks.items()
        }
        random.Random(SEED).shuffle(cells)
        for language, length, depth in cells:
            wording, key, place = WORDINGS[language], *_fact(language, length, depth)
            text = fillers[language]

            def compose(sentences, wording=wording, key=key, place=place, depth=depth, text=text) -> Prompt:
                fact = wording.fact.format(place=place, key=key)
                body = with_facts(sentences, text.space, text.ends, {depth: [fact]})
                return _prompt(wording, body, place, self.writer.model.is_chat)

            prompt, tokens = self.writer.fit(length - MAX_TOKENS, text, compose)
            facts = {"target": key, "language": language, "length": length, "depth": depth, "prompt_tokens": tokens}
            yield self.writer.example(prompt, MAX_TOKENS, facts)

    def order(self, example: Generate | Complete) -> tuple[float | str, ...]:
        facts = example.facts
        return facts["language"], -facts["depth"] * facts["length"], -facts["length"]

    def score(self, example: Generate | Complete, answer: Answer) -> Score:
        number = stated_number(answer.text, DIGITS)
        is_right = number == example.facts["target"]
        share, facts = Share(float(is_right)), example.facts
        names = ("accuracy", f"accuracy/{facts['language']}", f"accuracy/{facts['length']}")
        return Score(shares=dict.fromkeys(names, share), extracted=number or None, is_right=is_right)

    def estimates(self, scored: Sequence[Scored]) -> dict[str, Estimate]:
        """All, then by language, then by length: the examples are shuffled."""
        found = super().estimates(scored)
        order = ("accuracy", *(f"accuracy/{part}" for part in (*self.languages, *self.writer.lengths())))
        return {name: found[name] for name in order if name in found}

    def settings(self) -> Mapping[str, Any]:
        return {
            **self.writer.settings(),
            "prompts": {n: _prompt(WORDINGS[n], "{text}", "{place}", True).text for n in self.languages},
            "facts": {language: WORDINGS[language].fact for language in self.languages},
            "text": {n: {"origin": each.origin, "sha256": each.sha256} for n, each in self.haystacks.items()},
            "lengths": list(self.writer.lengths()),
            "depths": list(DEPTHS),
            "seed": SEED,
            "max_tokens": MAX_TOKENS,
            "extractor": extractor("stated_number"),
            "grid": {"by": "language", "rows": "depth", "columns": "length"},
        }


def _fact(language: str, length: int, depth: int) -> tuple[str, str]:
    """The number and the place of one cell."""
    chance = random.Random(f"{SEED}/{language}/{length}/{depth}")
    return str(chance.randrange(10 ** (DIGITS - 1), 10**DIGITS)), chance.choice(WORDINGS[language].places)


def _prompt(wording: Wording, body: str, place: str, is_chat: bool) -> Prompt:
    end = "" if is_chat else f"\n{wording.answer}"
    text = f"{wording.before}\n\n{body}\n\n{wording.question.format(place=place)}{end}"
    return Prompt(text, wording.opening.format(place=place))
