"""The rules on answers made to mislead them (`rule_cases.toml`), and what holds for every rule."""

import tomllib
from pathlib import Path

import pytest

from qianwen.align.system_prompts.rules import RULES, broken

CASES = tomllib.loads(Path(__file__).with_name("rule_cases.toml").read_text(encoding="utf-8"))["case"]


def test_there_are_at_least_200_answers_and_each_rule_has_both_kinds():
    assert sum(len(case["obeys"]) + len(case["breaks"]) for case in CASES) >= 200
    assert {name for case in CASES for name in case["rules"]} | {"contains_any"} == RULES.keys()
    assert all(case["obeys"] and case["breaks"] for case in CASES)


@pytest.mark.parametrize("case", CASES, ids=[str(case["rules"])[:40] for case in CASES])
def test_answers_that_obey_and_answers_that_do_not(case):
    wrong = {answer: broken(case["rules"], answer) for answer in case["obeys"] if broken(case["rules"], answer)}
    assert not wrong, f"they obey: {wrong}"
    assert not [answer for answer in case["breaks"] if not broken(case["rules"], answer)], "they do not obey"


def test_the_broken_rules_are_named():
    rules = {"language": "en", "ends_with": "Over", "no_digits": True}
    assert broken(rules, "It is 9 o'clock.") == ["ends_with", "no_digits"]
    assert broken(rules, "Nine. Over.") == []
    assert broken({"contains_any": ["yes", "no"]}, "no way") == []
    assert broken({"contains_any": ["yes", "no"]}, "perhaps, who knows") == ["contains_any"]


def test_saying_nothing_or_the_same_again_obeys_no_system_prompt():
    assert broken({}, "") == ["content"] and broken({}, " \n**") == ["content"]
    assert broken({}, "Hello there.", ["Hello there. "]) == ["repeats"]
    assert broken({"equals": "No."}, "No.", ["No."]) == [], "the complete answer is given"


def test_an_endless_text_is_judged_in_no_time():
    text = "I am not " * 20_000
    for name, value in (("in_role", True), ("sentences", 1), ("contains", ["x"]), ("items", 3), ("json_keys", ["a"])):
        broken({name: value}, text)
