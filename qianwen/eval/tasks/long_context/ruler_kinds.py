"""The kinds of RULER's questions (Hsieh et al., 2024) on synthetic texts, in English, in words of our own.

    passkey              one number among repeated sentences
    multi-key            the number of one place in a book, where three other places have numbers too
    multi-value          all four numbers of one place
    multi-query          the numbers of four places
    variable-tracking    the five variables of a chain of assignments that have one value, among repeated sentences
    common-words         the five words that occur ten times in a list whose other words occur once

Each kind makes, from a random generator, what to fill the text with, how a prompt is composed, and the expected words.
Two kinds have a worked example before the question, as in RULER.
"""

import random
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from qianwen.eval.tasks.long_context.haystack import Filler, Haystack, filler
from qianwen.eval.tasks.long_context.prompts import Prompt, with_facts
from qianwen.tokenizer.tokenizer import Tokenizer

DIGITS = 7
NOISE = ("The river is wide.", "The road is long.", "The lamp is lit.", "We walk on.", "Then we come back.")
MOST_NOISE = 200_000  # tokens
PLACES = ("old mill", "north gate", "city library", "railway depot", "grain store", "harbour office", "south tower",
          "post house", "stone bridge", "west barracks", "glass works", "salt cellar")  # fmt: skip
BEFORE = "Some pass numbers are hidden in the text below. Remember them; the question about them comes after the text."
FACT = "One of the pass numbers of the {place} is {number}."
CHAIN_LENGTH = 5
COMMON, TIMES = 5, 10


class Question(NamedTuple):
    """`compose` makes the prompt with the first pieces of `filler` in it; a right answer has the `expected` words."""

    filler: Filler
    compose: Callable[[Sequence[str]], Prompt]
    expected: tuple[str, ...]


@dataclass(frozen=True)
class Texts:
    """What questions are made of: a book, its long words, and the repeated sentences, with lengths in tokens."""

    book: Filler
    noise: Filler
    words: tuple[str, ...]
    tokenizer: Tokenizer


def texts(haystack: Haystack, tokenizer: Tokenizer) -> Texts:
    """The texts for a model with this tokenizer."""
    book = filler(haystack.sentences, haystack.space, tokenizer)
    per_round = filler(NOISE, " ", tokenizer).ends[-1]
    words = sorted(set(re.findall(r"\b[a-z]{5,8}\b", " ".join(haystack.sentences))))
    noise = filler(NOISE * (MOST_NOISE // per_round), " ", tokenizer)
    return Texts(book, noise, tuple(words), tokenizer)


# ---- numbers of places -------------------------------------------------------------------------------------------


def passkey(source: Texts, chance: random.Random) -> Question:
    """One number among repeated sentences."""
    return _numbers(source.noise, chance, num_places=1, num_values=1, num_asked=1)


def multi_key(source: Texts, chance: random.Random) -> Question:
    """Which of four places has which number?"""
    return _numbers(source.book, chance, num_places=4, num_values=1, num_asked=1)


def multi_value(source: Texts, chance: random.Random) -> Question:
    """All numbers of one place."""
    return _numbers(source.book, chance, num_places=1, num_values=4, num_asked=1)


def multi_query(source: Texts, chance: random.Random) -> Question:
    """The numbers of four places."""
    return _numbers(source.book, chance, num_places=4, num_values=1, num_asked=4)


def _numbers(text: Filler, chance: random.Random, *, num_places: int, num_values: int, num_asked: int) -> Question:
    places = chance.sample(PLACES, num_places)
    numbers = chance.sample(range(10 ** (DIGITS - 1), 10**DIGITS), num_places * num_values)
    pairs = [(places[index % num_places], str(number)) for index, number in enumerate(numbers)]
    asked = chance.sample(places, num_asked)
    facts = [FACT.format(place=place, number=number) for place, number in pairs]
    depths = _spread([[fact] for fact in facts], chance)
    expected = tuple(number for place, number in pairs if place in asked)
    names = _listed([f"the {place}" for place in asked])
    one = len(expected) == 1
    question = f"What {'is the pass number' if one else 'are all the pass numbers'} of {names} in the text above?"
    form = "Answer with the number only." if one else "Answer with the numbers only, separated by commas."
    opening = f"\nAnswer: The pass number{' of' if one else 's of'} {names} {'is' if one else 'are'}"

    def compose(sentences: Sequence[str]) -> Prompt:
        body = with_facts(sentences, text.space, text.ends, depths)
        return Prompt(f"{BEFORE}\n\n{body}\n\n{question} {form}", opening)

    return Question(text, compose, expected)


def _spread(groups: Sequence[Sequence[str]], chance: random.Random) -> Mapping[int, Sequence[str]]:
    """Groups of sentences at different depths, in percent, in this order."""
    return dict(zip(sorted(chance.sample(range(101), len(groups))), groups, strict=True))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


# ---- chains of assignments ---------------------------------------------------------------------------------------


def variable_tracking(source: Texts, chance: random.Random) -> Question:
    """The variables that have one value, directly or through others."""
    names, value = _names(CHAIN_LENGTH, chance), str(chance.randrange(10_000, 100_000))
    example_names, example_value = _names(3, chance), str(chance.randrange(10_000, 100_000))
    depths = _spread([[line] for line in _chain(names, value)], chance)
    example = _chain_text(" ".join([*_chain(example_names, example_value), *NOISE]), example_value)

    def compose(sentences: Sequence[str]) -> Prompt:
        body = with_facts(sentences, source.noise.space, source.noise.ends, depths)
        before = f"{example}\nAnswer: {', '.join(example_names)}\n\n"
        return Prompt(before + _chain_text(body, value), "\nAnswer:")

    return Question(source.noise, compose, names)


def _chain_text(body: str, value: str) -> str:
    return (
        f"Variables get their values in the text below.\n\n{body}\n\n"
        f"Question: which variables have the value {value} in the text above? Answer with their names only."
    )


def _chain(names: Sequence[str], value: str) -> list[str]:
    pairs = zip(names, [value, *(f"VAR {name}" for name in names)], strict=False)
    return [f"VAR {name} = {given}." for name, given in pairs]


def _names(number: int, chance: random.Random) -> tuple[str, ...]:
    names: dict[str, None] = {}
    while len(names) < number:
        names["".join(chance.choices(string.ascii_uppercase, k=5))] = None
    return tuple(names)


# ---- common words ------------------------------------------------------------------------------------------------


def common_words(source: Texts, chance: random.Random) -> Question:
    """The words that occur most often in a list."""
    words = chance.sample(source.words, len(source.words))
    common, example_common, rare = words[:COMMON], words[COMMON : 2 * COMMON], words[2 * COMMON :]
    seed = chance.random()
    example = _list_text(_mixed(example_common, 3, rare[-20:], seed))

    def compose(rare_words: Sequence[str]) -> Prompt:
        before = f"{example}\nAnswer: {', '.join(example_common)}\n\n"
        return Prompt(before + _list_text(_mixed(common, TIMES, rare_words, seed)), "\nAnswer:")

    return Question(filler(rare[:-20], ", ", source.tokenizer), compose, tuple(common))


def _mixed(common: Sequence[str], times: int, rare: Sequence[str], seed: float) -> list[str]:
    words = [*common] * times + [*rare]
    random.Random(seed).shuffle(words)
    return words


def _list_text(words: Sequence[str]) -> str:
    return (
        f"Some words occur several times in the list below.\n\n{', '.join(words)}\n\n"
        f"Question: which {COMMON} words occur most often in the list above? Answer with the words only."
    )


KINDS: dict[str, Callable[[Texts, random.Random], Question]] = {
    "passkey": passkey,
    "multi-key": multi_key,
    "multi-value": multi_value,
    "multi-query": multi_query,
    "variable-tracking": variable_tracking,
    "common-words": common_words,
}
