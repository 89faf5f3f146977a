"""Forms of training dialogues: a system prompt with its rules, and answers that are made to obey it.

An answer starts as the plain sentences of `plain_answers.toml`; a form lays them out as its system prompt demands. Some
rules of the held-out prompts are in no form here (one label, capitals, commas, emojis, characters, one line), so that
obedience to rules that were never trained can be measured.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qianwen.align.plain_answers import SPACE, PlainAnswer, plain_answers
from qianwen.align.system_prompts.material import material
from qianwen.align.system_prompts.rules import Rules

Compose = Callable[[PlainAnswer, random.Random], str]


@dataclass(frozen=True)
class Form:
    """A system prompt, the rules it states, and how an answer is made that obeys them."""

    kind: str
    system: str
    rules: Rules
    compose: Compose
    language: str  # of the answers
    exchanges: Sequence[tuple[str, str, Rules]] = ()  # turns with complete answers, among the plain questions


NUMBERS = {"en": {2: "two", 3: "three", 4: "four"}, "zh": {2: "两", 3: "三", 4: "四"}}
OTHER = {"en": "zh", "zh": "en"}
NUM_ON_TOPIC = 2  # turns about the topic, at least


def style_or_behaviour(language: str, draw: random.Random) -> Form:
    """A form with one rule, or with two that do not exclude each other."""
    builders = (
        _starts, _ends, _counted, _at_most, _short, _listed, _asking, _in_json, _naming, _both_ends, _no_digits,
        _foreign,
    )  # fmt: skip
    return draw.choice([each for each in builders if each is not _short or language == "en"])(language, draw)


def topic_form(language: str, draw: random.Random) -> Form:
    """Only one topic is answered; every other question gets a fixed sentence."""
    topic, refusal, questions = draw.choice(material(language)["topics"])
    system = _wording(language, "topic", draw).format(topic=topic, value=refusal)
    rules = {"excludes": [refusal.rstrip(".。")]}

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw) if plain.question in questions else refusal

    by_question = {plain.question: plain for plain in plain_answers(language)}
    chosen = [by_question[question] for question in draw.sample(questions, NUM_ON_TOPIC)]
    exchanges = [(plain.question, compose(plain, draw), rules) for plain in chosen]
    return Form("behaviour", system, rules, compose, language, exchanges)


def _wording(language: str, name: str, draw: random.Random) -> str:
    return draw.choice(material(language)["wordings"][name])


def _form(
    kind: str, name: str, language: str, draw: random.Random, rules: Rules, compose: Compose, value: Any = ""
) -> Form:
    system = _wording(language, name, draw).format(value=value)
    return Form(kind, system, {"language": language, **rules}, compose, language)


def _starts(language: str, draw: random.Random) -> Form:
    start = draw.choice(material(language)["starts"])

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _after(start, _some(plain, language, draw), language)

    return _form("style", "starts_with", language, draw, {"starts_with": start}, compose, start)


def _ends(language: str, draw: random.Random) -> Form:
    end = draw.choice(material(language)["ends"])

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _before(_some(plain, language, draw), end, language)

    return _form("behaviour", "ends_with", language, draw, {"ends_with": end}, compose, end)


def _both_ends(language: str, draw: random.Random) -> Form:
    start, end = draw.choice(material(language)["starts"]), draw.choice(material(language)["ends"])
    texts = (("starts_with", start), ("ends_with", end))
    system = SPACE[language].join(_wording(language, name, draw).format(value=value) for name, value in texts)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _before(_after(start, _some(plain, language, draw), language), end, language)

    return Form("style", system, {"language": language, "starts_with": start, "ends_with": end}, compose, language)


def _counted(language: str, draw: random.Random) -> Form:
    count = draw.randint(1, 4)
    name = "one_sentence" if count == 1 else "sentences"

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return SPACE[language].join(plain.sentences[:count])

    return _form("style", name, language, draw, {"sentences": count}, compose, NUMBERS[language].get(count))


def _at_most(language: str, draw: random.Random) -> Form:
    most = draw.randint(2, 3)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return SPACE[language].join(plain.sentences[: draw.randint(1, most)])

    rules = {"max_sentences": most}
    return _form("style", "max_sentences", language, draw, rules, compose, NUMBERS[language][most])


def _short(language: str, draw: random.Random) -> Form:
    most = draw.choice((12, 16, 25))

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return plain.sentences[0]

    return _form("style", "max_words", language, draw, {"max_words": most}, compose, most)


def _listed(language: str, draw: random.Random) -> Form:
    count = draw.randint(2, 4)

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return "\n".join(f"- {sentence}" for sentence in plain.sentences[:count])

    return _form("style", "items", language, draw, {"items": count}, compose, NUMBERS[language][count])


def _asking(language: str, draw: random.Random) -> Form:
    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw) + SPACE[language] + draw.choice(material(language)["asks"])

    return _form("style", "question", language, draw, {"question": True}, compose)


def _in_json(language: str, draw: random.Random) -> Form:
    keys = draw.choice(material(language)["keys"])

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        values = {keys[0]: plain.sentences[0], keys[1]: plain.sentences[1]}
        return json.dumps(values, ensure_ascii=False)

    named = " and ".join(keys) if language == "en" else "、".join(keys)
    system = _wording(language, "json_keys", draw).format(value=named)
    return Form("behaviour", system, {"json_keys": list(keys)}, compose, language)


def _naming(language: str, draw: random.Random) -> Form:
    name = draw.choice(material(language)["names"])

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        text = _some(plain, language, draw)
        return _after(name, text, language) if draw.random() < 0.7 else _before(text, name, language)

    return _form("behaviour", "contains", language, draw, {"contains": [name]}, compose, name)


def _no_digits(language: str, draw: random.Random) -> Form:
    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(plain, language, draw)

    return _form("behaviour", "no_digits", language, draw, {"no_digits": True}, compose)


def _foreign(language: str, draw: random.Random) -> Form:
    """The user writes in `language`; the answers are in the other one. The two files have the same questions."""
    own, other = plain_answers(language), plain_answers(OTHER[language])
    translated = {mine.question: theirs for mine, theirs in zip(own, other, strict=True)}

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return _some(translated[plain.question], OTHER[language], draw)

    system = _wording(language, "language", draw)
    return Form("behaviour", system, {"language": OTHER[language]}, compose, OTHER[language])


def _some(plain: PlainAnswer, language: str, draw: random.Random) -> str:
    """Some of the sentences, from the first on."""
    return SPACE[language].join(plain.sentences[: draw.randint(1, 3)])


def _after(start: str, text: str, language: str) -> str:
    """ "Listen: Sunlight contains all colours." """
    return f"{start}: {text}" if language == "en" else f"{start}，{text}"


def _before(text: str, end: str, language: str) -> str:
    return f"{text} {end}." if language == "en" else f"{text}{end}。"
