import json
import random

import pytest

from qianwen.align.system_prompts.material import material
from qianwen.align.system_prompts.roles import role_form, task_form
from qianwen.align.system_prompts.rules import broken


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_role_is_kept_when_users_try_to_end_it(language):
    draw = random.Random(2)
    names = {name for name, *_ in material(language)["roles"]}
    for _ in range(200):
        form = role_form(language, draw)
        assert any(name in form.system for name in names)
        for question, answer, rules in form.exchanges:
            assert broken(rules, answer) == [], (question, answer)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_tasks_have_six_different_messages_with_the_right_answer(language):
    draw = random.Random(3)
    for _ in range(60):
        form = task_form(language, draw)
        assert len({question for question, _, _ in form.exchanges}) == 6
        for message, answer, rules in form.exchanges:
            assert broken(rules, answer) == []
            if "json_keys" in rules:
                assert all(value in message for value in json.loads(answer).values())
