import random

import pytest

from qianwen.align.plain_answers import plain_answers
from qianwen.align.system_prompts.forms import style_or_behaviour, topic_form
from qianwen.align.system_prompts.rules import broken


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_form_makes_answers_that_obey_its_own_rules(language):
    draw = random.Random(5)
    for _ in range(300):
        form = style_or_behaviour(language, draw)
        for plain in draw.sample(plain_answers(language), 3):
            answer = form.compose(plain, draw)
            assert broken(form.rules, answer) == [], (form.system, answer)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_one_topic_is_answered_and_every_other_question_gets_the_same_sentence(language):
    form = topic_form(language, random.Random(1))
    answers = {form.compose(plain, random.Random(0)) for plain in plain_answers(language)}
    refusal = form.rules["excludes"][0]
    assert 3 <= len(answers) <= 7 and sum(refusal in answer for answer in answers) == 1
    assert all(refusal not in answer for _, answer, _ in form.exchanges) and len(form.exchanges) == 2
