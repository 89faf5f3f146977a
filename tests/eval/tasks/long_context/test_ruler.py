"""Cells of kinds and lengths, recall, and the effective length."""

from collections.abc import Callable

import pytest

from qianwen.eval.task import Answer, Scored, TaskOptions
from qianwen.eval.tasks.long_context.ruler import EXAMPLES, MAX_TOKENS, THRESHOLD, Ruler
from qianwen.eval.tasks.long_context.ruler_kinds import KINDS
from qianwen.runtime.errors import ConfigError

Options = Callable[..., TaskOptions]


@pytest.fixture
def task(options: Options) -> Ruler:
    return Ruler(options(lengths=(1600, 2400)))


def test_the_first_examples_have_every_kind_and_length_and_fit(task: Ruler) -> None:
    examples = list(task.examples())
    assert len(examples) == EXAMPLES * 2 * len(KINDS)
    cells = {(example.facts["kind"], example.facts["length"]) for example in examples[: 2 * len(KINDS)]}
    assert len(cells) == 2 * len(KINDS)
    assert all(example.facts["prompt_tokens"] <= example.facts["length"] - MAX_TOKENS for example in examples)
    assert len({example.messages[0].text for example in examples}) == len(examples)
    assert examples == list(task.examples())


def test_recall_is_the_share_of_expected_words_however_they_are_written(task: Ruler) -> None:
    examples = {example.facts["kind"]: example for example in task.examples()}
    numbers, words = examples["multi-value"], examples["common-words"]
    target = numbers.facts["target"]
    assert task.score(numbers, Answer(text=" ".join(target))).verdict == "right"
    two = task.score(numbers, Answer(text=f"{int(target[0]):,} and {target[1]}"))
    assert two.shares["recall"].amount == 0.5 and two.verdict == "wrong"
    assert task.score(numbers, Answer(text=target[0] + "0")).shares["recall"].amount == 0
    assert task.score(words, Answer(text=", ".join(words.facts["target"]).upper())).verdict == "right"
    assert task.score(words, Answer(text="".join(words.facts["target"]))).shares["recall"].amount == 0
    assert task.score(words, Answer(text="")).verdict == "unparsed"


def test_the_effective_length_is_the_longest_with_enough_recall(task: Ruler) -> None:
    def effective(short: float, long: float) -> float:
        scored = []
        for number, example in enumerate(task.examples()):
            share = short if example.facts["length"] == 1600 else long
            is_right = (number // (2 * len(KINDS))) / EXAMPLES < share
            text = " ".join(example.facts["target"]) if is_right else ""
            scored.append(Scored(example, Answer(text=text), task.score(example, Answer(text=text))))
        estimates = task.estimates(scored)
        assert estimates["recall/1600"].value == short and next(iter(estimates)) == "recall"
        parts = [f"recall/{part}" for part in (*task.lengths, *KINDS)]
        assert list(estimates) == ["recall", *parts, "effective_length"]
        assert estimates["effective_length"].num_examples == len(scored)
        assert estimates["effective_length"].low <= estimates["effective_length"].value
        return estimates["effective_length"].value

    assert [effective(0.9, 0.9), effective(0.9, 0.8), effective(0.8, 0.9), effective(0.5, 0.2)] == [2400, 1600, 2400, 0]


def test_a_part_of_a_run_has_an_effective_length_too(task: Ruler) -> None:
    example = next(iter(task.examples()))
    answer = Answer(text=" ".join(example.facts["target"]))
    assert task.estimates([Scored(example, answer, task.score(example, answer))])["effective_length"].value == 1600


def test_settings_say_where_the_threshold_is_from(task: Ruler) -> None:
    settings = task.settings()
    assert settings["threshold"]["value"] == THRESHOLD and "Llama2-7B" in settings["threshold"]["source"]
    assert settings["lengths"] == [1600, 2400] and settings["kinds"] == list(KINDS)
    assert len(settings["text"]["sha256"]) == 64


def test_there_is_no_chinese_text(options: Options) -> None:
    with pytest.raises(ConfigError, match="zh; choose from en"):
        Ruler(options(languages=("en", "zh")))
