"""What a dialogue teaches: labels of the record, and guesses that are right for most of 210 rows labelled by hand."""

from collections import Counter
from pathlib import Path

import pytest

from qianwen.align.abilities import ABILITIES, abilities_table, ability_of, count_abilities, guess_ability
from qianwen.align.records import Dialogue, read_record

ROWS = Path(__file__).with_name("ability_rows.tsv")  # label, question, answer
MAX_ERROR = 0.05


def labelled() -> list[tuple[str, Dialogue]]:
    rows = (line.split("\t") for line in ROWS.read_text(encoding="utf-8").splitlines())
    return [
        (label, dialogue(question.replace("\\n", "\n"), answer.replace("\\n", "\n")))
        for label, question, answer in rows
    ]


def dialogue(question: str, answer: str, **fields: object) -> Dialogue:
    return read_record({"query": question, "response": answer, **fields})


def test_few_of_the_labelled_rows_get_another_label():
    rows = labelled()
    assert len(rows) >= 200
    assert {label for label, _ in rows} == {*ABILITIES} - {"service"}
    wrong = [
        (label, guess_ability(each), each.messages[0].text) for label, each in rows if guess_ability(each) != label
    ]
    assert len(wrong) <= MAX_ERROR * len(rows), wrong


def test_calls_and_observations_are_service():
    function = {"name": "weather", "description": "", "parameters": {"type": "object", "properties": {}}}
    call = {"name": "weather", "arguments": "{}"}
    turns = [
        {"role": "user", "content": "Write a poem about the weather."},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "type": "function", "function": call}]},
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "assistant", "content": "Rain."},
    ]
    assert (
        guess_ability(read_record({"messages": turns, "tools": [{"type": "function", "function": function}]}))
        == "service"
    )
    react = "Thought: I look it up.\nAction: search\nAction Input: {}\nObservation: rain\nFinal Answer: rain"
    assert guess_ability(dialogue("How is the weather?", react)) == "service"


def test_the_record_decides_if_it_has_a_label():
    assert ability_of(dialogue("What is 2 + 2?", "4")) == "mathematics"
    assert ability_of(dialogue("What is 2 + 2?", "4", ability="writing")) == "writing"
    assert ability_of(dialogue("What is 2 + 2?", "4", ability=" my own ")) == "my own"
    assert ability_of(dialogue("What is 2 + 2?", "4", ability=7)) == "mathematics"  # another program's field


@pytest.mark.parametrize(
    ("system", "ability"),
    [("You are a helpful assistant.", "question answering"), ("你是通义千问，一个助手。", "question answering"),
     ("You are a grumpy dwarf. Stay in character.", "role play"), ("你现在是一位古代侠客。", "role play")],
)  # fmt: skip
def test_a_system_message_may_ask_for_a_role(system: str, ability: str):
    assert guess_ability(dialogue("What did you eat today?", "Bread.", system=system)) == ability


def test_a_greeting_is_not_the_task():
    turns = [("user", "Hello!"), ("assistant", "Hi."), ("user", "Translate 'cat' into French."), ("assistant", "chat")]
    record = {"messages": [{"role": role, "content": text} for role, text in turns]}
    assert guess_ability(read_record(record)) == "nlp"


def test_rows_are_counted_by_ability_and_language():
    rows = [each for _, each in labelled()]
    counts = count_abilities(rows)
    assert sum(sum(of_ability.values()) for of_ability in counts.values()) == len(rows)
    totals = [sum(of_ability.values()) for of_ability in counts.values()]
    assert totals == sorted(totals, reverse=True)
    languages = Counter()
    for of_ability in counts.values():
        languages.update(of_ability)
    assert languages["en"] > 80 and languages["zh"] > 80
    assert abilities_table(counts).row_count == len(counts)
    assert count_abilities([]) == {} and abilities_table({}).row_count == 0
