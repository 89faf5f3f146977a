"""The grid of examples, where their facts are, and what an answer scores."""

import re
from collections.abc import Callable

import pytest

from qianwen.engine.llm import LLM
from qianwen.eval.metrics import Share
from qianwen.eval.runner import run_task
from qianwen.eval.task import Answer, Complete, Generate, Scored, TaskOptions
from qianwen.eval.tasks.long_context.needle import DEPTHS, MAX_TOKENS, WORDINGS, Needle
from qianwen.runtime.errors import ConfigError

Options = Callable[..., TaskOptions]


def text(example: Generate | Complete) -> str:
    return example.prompt if isinstance(example, Complete) else example.messages[0].text


def test_there_is_one_example_for_each_cell_and_it_is_as_long_as_it_says(options: Options) -> None:
    examples = list(Needle(options(lengths=(1000, 2000))).examples())
    cells = {(e.facts["language"], e.facts["length"], e.facts["depth"]) for e in examples}
    assert len(examples) == len(cells) == 2 * 2 * len(DEPTHS)
    for example in examples:
        room = example.facts["length"] - MAX_TOKENS
        assert room - 120 < example.facts["prompt_tokens"] <= room, "up to one sentence of the text"


@pytest.mark.parametrize("is_chat", [True, False])
def test_the_fact_is_in_the_text_once_at_its_depth_and_the_question_is_about_it(
    options: Options, is_chat: bool
) -> None:
    for example in Needle(options(lengths=(4000,), is_chat=is_chat)).examples():
        prompt, key = text(example), example.facts["target"]
        assert len(key) == 7 and prompt.count(key) == 1
        wording = WORDINGS[example.facts["language"]]
        _, body, question = prompt.split("\n\n")
        place = next(place for place in wording.places if wording.fact.format(place=place, key=key) in body)
        assert question.startswith(wording.question.format(place=place))
        assert is_chat or question.endswith(wording.opening.format(place=place))
        fact = wording.fact.format(place=place, key=key)
        before = len(body.partition(fact)[0].encode())
        rest = len(body.encode()) - len(fact.encode())
        assert abs(before / rest - example.facts["depth"] / 100) < 0.03


def test_the_deepest_facts_of_the_longest_texts_come_first_and_share_their_beginnings(options: Options) -> None:
    task = Needle(options(lengths=(1000, 2000), languages=("en",)))
    ordered = sorted(task.examples(), key=task.order)
    assert (ordered[0].facts["length"], ordered[0].facts["depth"]) == (2000, 100)
    places = [example.facts["length"] * example.facts["depth"] for example in ordered]
    assert places == sorted(places, reverse=True)
    for example in ordered[1:]:
        before = text(example).partition(WORDINGS["en"].fact.partition("{")[0])[0]
        assert text(ordered[0]).startswith(before), "all texts begin alike"


def test_everyone_gets_the_same_examples(options: Options) -> None:
    one, two = ([*Needle(options(lengths=(1000,))).examples()] for _ in range(2))
    assert one == two
    assert len({example.facts["target"] for example in one}) == len(one)


def test_an_answer_is_right_if_it_gives_the_number(options: Options) -> None:
    task = Needle(options(lengths=(1000,)))
    example = next(iter(task.examples()))
    key, language = example.facts["target"], example.facts["language"]
    right = task.score(example, Answer(text=f"It is {int(key):,}."))
    assert right.verdict == "right" and right.extracted == key
    assert dict(right.shares) == dict.fromkeys(["accuracy", f"accuracy/{language}", "accuracy/1000"], Share(1.0))
    assert task.score(example, Answer(text="1111111")).verdict == "wrong"
    assert task.score(example, Answer(text="The text does not say.")).verdict == "unparsed"


def test_metrics_are_in_the_order_of_languages_and_lengths(options: Options) -> None:
    task = Needle(options(lengths=(1000, 2000)))
    answers = [(example, Answer(text=example.facts["target"])) for example in task.examples()]
    scored = [Scored(example, answer, task.score(example, answer)) for example, answer in answers]
    assert list(task.estimates(scored)) == ["accuracy", "accuracy/en", "accuracy/zh", "accuracy/1000", "accuracy/2000"]


def test_settings_say_how_to_repeat_it(options: Options) -> None:
    settings = Needle(options(lengths=(1000,), languages=("zh",))).settings()
    assert settings["lengths"] == [1000] and settings["depths"] == list(DEPTHS)
    assert list(settings["text"]) == ["zh"] and len(settings["text"]["zh"]["sha256"]) == 64
    assert settings["extractor"]["name"] == "stated_number" and settings["seed"] == 1
    assert "{text}" in settings["prompts"]["zh"] and re.search(r"chat", settings["protocol"])


def test_an_unknown_language_is_refused(options: Options) -> None:
    with pytest.raises(ConfigError, match="fr; choose from en, zh"):
        Needle(options(languages=("en", "fr")))


def test_a_network_of_any_kind_can_be_asked(options: Options, llm: LLM) -> None:
    task = Needle(options(lengths=(1000,), languages=("en",)))
    result = run_task(task, llm, limit=2)
    assert len(result.errors) == 2 and "64" in result.errors[0], "longer than this network reads: errors of examples"
