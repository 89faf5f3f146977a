from collections import Counter

import pytest

from qianwen.align.languages import is_in_language
from qianwen.align.plain_answers import plain_answers
from qianwen.align.system_prompts.held_out import KINDS, NUM_TURNS, held_out_prompts
from qianwen.align.system_prompts.training import training_dialogues

PROMPTS = held_out_prompts()


def test_there_are_64_with_six_turns_each_of_every_kind_in_both_languages():
    assert Counter((prompt.kind, prompt.language) for prompt in PROMPTS) == {
        (kind, language): 8 for kind in KINDS for language in ("en", "zh")
    }
    assert all(len(prompt.turns) == len(prompt.rules) == NUM_TURNS == len(set(prompt.turns)) for prompt in PROMPTS)
    assert len({prompt.system for prompt in PROMPTS}) == len({prompt.name for prompt in PROMPTS}) == 64


@pytest.mark.parametrize("prompt", PROMPTS, ids=[prompt.name for prompt in PROMPTS])
def test_prompt_and_turns_are_in_the_language_they_are_filed_under(prompt):
    assert is_in_language(prompt.system, prompt.language)
    assert all(is_in_language(turn, prompt.language) for turn in prompt.turns)


def test_training_has_no_prompt_no_question_and_no_phrase_of_them():
    dialogues = list(training_dialogues(400, seed=3))
    systems, questions = {prompt.system for prompt in PROMPTS}, {turn for prompt in PROMPTS for turn in prompt.turns}
    phrases = {
        rules[name]
        for prompt in PROMPTS
        for rules in prompt.rules
        for name in ("starts_with", "ends_with")
        if name in rules
    }
    for dialogue in dialogues:
        assert dialogue.form.system not in systems
        assert not any(turn.question in questions for turn in dialogue.turns)
        assert not {dialogue.form.rules.get("starts_with"), dialogue.form.rules.get("ends_with")} & phrases
    assert not questions & {plain.question for language in ("en", "zh") for plain in plain_answers(language)}


def test_unseen_are_those_that_need_a_rule_no_training_dialogue_has():
    trained = {name for dialogue in training_dialogues(600, seed=0) for turn in dialogue.turns for name in turn.rules}
    for prompt in PROMPTS:
        needed = {name for rules in prompt.rules for name in rules}
        assert prompt.is_unseen == bool(needed - trained), prompt.name
    assert 10 <= sum(prompt.is_unseen for prompt in PROMPTS) <= 32
