import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.choosing.parts import normal_row, parts_of, with_texts
from qianwen.align.turns import RecordError

REACT = "Thought: look\nAction: weather\nAction Input: {}\nObservation: rain\nThought: done\nFinal Answer: Rain."
CALLS = {
    "messages": [
        {"role": "user", "content": "weather?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [{"id": "1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "content": "rain", "tool_call_id": "1"},
        {"role": "assistant", "content": "Rain."},
    ],
    "tools": [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}],
}


def test_a_trajectory_is_read_step_by_step_in_both_forms():
    kinds = ["user", "thought", "action", "input", "observation", "assistant"]
    assert [part.kind for part in parts_of(normal_row(CALLS))] == kinds
    row = normal_row({"instruction": "weather?", "output": REACT})
    assert [part.kind for part in parts_of(row)] == [*kinds[:5], "thought", "assistant"]


@pytest.mark.parametrize("record", [CALLS, {"instruction": "weather?", "output": REACT}])
def test_an_edited_step_is_put_back_in_its_place(record):
    row = normal_row(record)
    edited = with_texts(row, {3: '{"city": "Rome"}', 4: "sun\nand wind"})
    texts = [part.text for part in parts_of(row)]
    texts[3:5] = ['{"city": "Rome"}', "sun\nand wind"]
    assert [part.text for part in parts_of(edited)] == texts
    assert row == normal_row(record) and with_texts(row, {}) == row == with_texts(row, {99: "x"})


@given(st.dictionaries(st.integers(0, 6), st.text("ab 中\n").map(str.strip), max_size=7))
def test_every_step_can_be_edited_at_once(texts):
    row = normal_row({"instruction": "weather?", "output": REACT})
    result = [part.text for part in parts_of(with_texts(row, texts))]
    expected = [texts.get(number, part.text) for number, part in enumerate(parts_of(row))]
    assert result == expected


def test_pairs_in_the_usual_forms_become_one():
    question, good, bad = (
        {"role": r, "content": c} for r, c in (("user", "q"), ("assistant", "g"), ("assistant", "b"))
    )
    expected = {"prompt": [question], "chosen": [good], "rejected": [bad]}
    assert normal_row({"prompt": "q", "chosen": "g", "rejected": "b"}) == expected
    assert normal_row({"chosen": [question, good], "rejected": [question, bad]}) == expected
    assert normal_row(expected) == expected
    assert [part.side for part in parts_of(expected)] == ["prompt", "chosen", "rejected"]
    with pytest.raises(RecordError):
        normal_row({"chosen": "g", "rejected": "b"})
