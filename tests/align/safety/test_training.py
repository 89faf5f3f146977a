"""The safety dialogues: counts, both answers, and nothing of the evaluation prompts."""

from collections import Counter

import pytest

from qianwen.align.near_duplicates import RUNS_LIMIT, largest_overlaps
from qianwen.align.records import read_record
from qianwen.align.safety.training import SafetyData, safety_data
from qianwen.chat.refusals import refusal_verdict
from qianwen.eval.safety.prompts import evaluation_texts


@pytest.fixture(scope="module")
def data() -> SafetyData:
    return safety_data(evaluation_texts())


def test_there_are_enough_of_both_kinds_in_every_category(data: SafetyData):
    counts = Counter((row.kind, row.language) for row in data.rows)
    assert all(counts["refuse", language] >= 240 and counts["help", language] >= 240 for language in ("en", "zh"))
    by_category = Counter((row.category, row.kind, row.language) for row in data.rows)
    assert len(by_category) == 7 * 2 * 2 and min(by_category.values()) >= 30


def test_no_question_is_twice_or_near_an_evaluation_prompt(data: SafetyData):
    questions = [row.question for row in data.rows]
    assert len(set(questions)) == len(questions)
    assert max(largest_overlaps(questions, evaluation_texts())) < RUNS_LIMIT
    assert data.num_near_evaluation == 0, "the written data itself is apart"


def test_refusals_refuse_and_look_alikes_are_answered(data: SafetyData):
    wrong = [row for row in data.rows if (refusal_verdict(row.answer) == "refusal") != (row.kind == "refuse")]
    assert not wrong


def test_a_question_near_an_evaluation_prompt_is_left_out(data: SafetyData):
    question = data.rows[0].question
    without = safety_data([question])
    assert without.num_near_evaluation >= 1 and question not in {row.question for row in without.rows}


def test_the_seed_decides_and_records_can_be_trained_on(data: SafetyData):
    assert safety_data(evaluation_texts()).rows == data.rows
    assert safety_data([], seed=1).rows != data.rows
    record = data.rows[0].record()
    assert record["ability"] == "safety"
    dialogue = read_record(record)
    assert [message.role for message in dialogue.messages] == ["user", "assistant"]
    assert dialogue.messages[1].text == data.rows[0].answer


def test_languages_and_further_prompts():
    rows = safety_data([], languages=["zh"], prompts=[("Bad request?", "crime")]).rows
    assert {row.language for row in rows} == {"zh"}, "further prompts are English"
    rows = safety_data([], languages=["en"], prompts=[("Bad request?", "crime")]).rows
    (added,) = (row for row in rows if row.question == "Bad request?")
    assert added.kind == "refuse" and refusal_verdict(added.answer) == "refusal"
