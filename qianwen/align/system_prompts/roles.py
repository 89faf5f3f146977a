"""Training dialogues in a role, and for a task: forms with questions and answers of their own.

role    a person with a trade, a word at the start or end of each answer, and users who try to end the role
task    every message of the user is processed in the same way: translated, sorted, or read into JSON
"""

import json
import random
from typing import Any

from qianwen.align.plain_answers import SPACE, PlainAnswer
from qianwen.align.system_prompts.forms import Form
from qianwen.align.system_prompts.material import material, word_pairs

NUM_TALK = 3  # turns about the role in a dialogue
KEYS = {"en": ("person", "place"), "zh": ("人物", "地点")}


def role_form(language: str, draw: random.Random) -> Form:
    """A role, with turns in which users ask about it and try to end it."""
    name, trade, phrase, day = draw.choice(material(language)["roles"])
    number = draw.randrange(len(material(language)["role_prompts"]))
    system = material(language)["role_prompts"][number].format(name=name, trade=trade, phrase=phrase)
    place = "starts_with" if number == 0 else "ends_with"
    rules = {"language": language, place: phrase, "in_role": True}

    def dressed(text: str) -> str:
        if place == "starts_with":
            return f"{phrase}: {text}" if language == "en" else f"{phrase}，{text}"
        return f"{text} {phrase}." if language == "en" else f"{text}{phrase}。"

    def compose(plain: PlainAnswer, draw: random.Random) -> str:
        return dressed(SPACE[language].join(plain.sentences[: draw.randint(1, 2)]))

    talk = draw.sample(material(language)["role_talk"], NUM_TALK)
    exchanges = [(ask, dressed(reply.format(name=name, trade=trade, day=day)), rules) for ask, reply in talk]
    return Form("role", system, rules, compose, language, exchanges)


def task_form(language: str, draw: random.Random) -> Form:
    """A task whose messages and answers are made by code; it has no plain questions."""
    name = draw.choice(("translate", "sort", "read"))
    make = {"translate": _translations, "sort": _sorted, "read": _read}[name]
    return Form(
        "task", draw.choice(material(language)["tasks"][name]), {}, _no_plain_question, language, make(language, draw)
    )


def _no_plain_question(plain: PlainAnswer, draw: random.Random) -> str:
    raise AssertionError("a task has six exchanges of its own")


def _translations(language: str, draw: random.Random) -> list[tuple[str, str, dict[str, Any]]]:
    pairs = draw.sample(word_pairs(), 6)
    ordered = pairs if language == "en" else [(chinese, english) for english, chinese in pairs]
    return [(word, translation, {"equals": translation}) for word, translation in ordered]


def _sorted(language: str, draw: random.Random) -> list[tuple[str, str, dict[str, Any]]]:
    exchanges = []
    for _ in range(6):
        count = draw.randint(3, 5)
        if language == "en":
            words = draw.sample([english for english, _ in word_pairs() if " " not in english], count)
            ordered = ", ".join(sorted(words))
        else:
            words = draw.sample(range(10, 100), count)
            ordered = "，".join(map(str, sorted(words)))
        joint = ", " if language == "en" else "，"
        exchanges.append((joint.join(map(str, words)), ordered, {"equals": ordered}))
    return exchanges


def _read(language: str, draw: random.Random) -> list[tuple[str, str, dict[str, Any]]]:
    exchanges = []
    people = [(person, place) for person in material(language)["people"] for place in material(language)["places"]]
    for person, place in draw.sample(people, 6):
        message = draw.choice(material(language)["tasks"]["message"]).format(person=person, place=place)
        answer = json.dumps(dict(zip(KEYS[language], (person, place), strict=True)), ensure_ascii=False)
        exchanges.append((message, answer, {"json_keys": list(KEYS[language])}))
    return exchanges
