"""A right answer can be read out of each text, and only once."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.tasks.long_context.haystack import read_haystack
from qianwen.eval.tasks.long_context.ruler_kinds import COMMON, KINDS, TIMES, Question, Texts, texts


@pytest.fixture
def source(llm: LLM, data: Path) -> Texts:
    return texts(read_haystack(data, "en"), llm.tokenizer)


def made(kind: str, source: Texts, number: int, pieces: int = 40) -> tuple[Question, str]:
    question = KINDS[kind](source, random.Random(number))
    return question, question.compose(question.filler.pieces[:pieces]).text


@pytest.mark.parametrize(("kind", "hidden", "asked"), [("passkey", 1, 1), ("multi-key", 4, 1), ("multi-value", 4, 4),
                                                       ("multi-query", 4, 4)])  # fmt: skip
@pytest.mark.parametrize("number", range(5))
def test_the_numbers_of_the_asked_places_are_expected(
    source: Texts, kind: str, hidden: int, asked: int, number: int
) -> None:
    question, text = made(kind, source, number)
    facts = re.findall(r"pass numbers of the ([a-z ]+) is (\d{7})\.", text)
    places = re.findall(
        r"the ([a-z]+ [a-z]+)", text.rpartition("\n\n")[2].partition(" of ")[2].partition(" in the ")[0]
    )
    assert len(facts) == hidden and len(question.expected) == asked
    assert {value for place, value in facts if place in places} == set(question.expected)


@pytest.mark.parametrize("number", range(5))
def test_a_chain_leads_from_the_value_to_each_variable(source: Texts, number: int) -> None:
    question, text = made("variable-tracking", source, number)
    text = text.rpartition("Answer:")[2]  # without the worked example
    value = re.findall(r"have the value (\d{5})", text)[0]
    has = {value}
    for name, given in re.findall(r"VAR (\w+) = (?:VAR )?(\w+)\.", text):
        assert given in has, "each line needs only lines before it"
        has.add(name)
    assert has - {value} == set(question.expected) and len(question.expected) == 5


@pytest.mark.parametrize("pieces", [0, 40])
def test_common_words_are_the_most_frequent_ones(source: Texts, pieces: int) -> None:
    question, text = made("common-words", source, 1, pieces)
    words = text.rpartition("Answer:")[2].split("\n\n")[2].split(", ")
    most = Counter(words).most_common()
    assert {word for word, _ in most[:COMMON]} == set(question.expected)
    assert [count for _, count in most] == [TIMES] * COMMON + [1] * pieces


@pytest.mark.parametrize("kind", KINDS)
def test_an_example_follows_from_its_seed(source: Texts, kind: str) -> None:
    assert made(kind, source, 7)[1] == made(kind, source, 7)[1] != made(kind, source, 8)[1]
