import json
import re
from collections import Counter
from itertools import islice

from qianwen.align.calculator_dialogues import Counts, dialogues, is_held_out, products
from qianwen.align.records import read_record
from qianwen.chat.functions import call_reader, lay_out
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.chat.model import collect

CALCULATOR = FunctionSpec(
    "calculator",
    "Computes.",
    {"type": "object", "properties": {"expression": {"type": "string"}}, "required": ["expression"]},
    args_format="json",
)
COUNTS = Counts(call=10, react=20, direct=30, copy=40)


def rows(seed: int = 0) -> list[dict]:
    return dialogues(CALCULATOR, COUNTS, seed)


def test_a_seed_gives_the_same_dialogues_and_another_seed_others():
    assert rows(3) == rows(3) and rows(3) != rows(4)


def test_there_are_as_many_of_each_kind_as_asked():
    def kind(row: dict) -> str:
        messages = row["messages"]
        if len(messages) == 4:
            return "call" if "tools" in row else "react"
        return "copy" if messages[0]["content"].startswith("Copy") else "direct"

    assert Counter(map(kind, rows())) == {"call": 10, "react": 20, "direct": 30, "copy": 40}


def test_no_product_of_the_test_is_learned():
    for row in dialogues(CALCULATOR, Counts(call=200, react=200, direct=200, copy=0), 0):
        a, b = map(int, re.findall(r"\d+", row["messages"][0]["content"]))
        assert not is_held_out(a, b) and not is_held_out(b, a)
    held_out = list(islice(products("held_out", 5), 200))
    assert all(is_held_out(each.a, each.b) for each in held_out)
    assert len({(each.a, each.b) for each in held_out}) == 200
    share = sum(is_held_out(a, b) for a in range(10, 60) for b in range(60, 110)) / 2500
    assert 0.07 < share < 0.13


def test_results_are_right_and_calls_are_read_again():
    for row in rows():
        dialogue = read_record(row)
        first, *_, last = dialogue.messages
        number = int(re.sub(r"\D", "", last.text.split("Answer:")[-1]) or 0)
        if len(dialogue.messages) == 4:
            a, b = map(int, re.findall(r"\d+", first.text))
            (call,) = dialogue.messages[1].tool_calls
            assert json.loads(call.arguments) == {"expression": f"{a} * {b}"}
            assert dialogue.messages[2].text == str(a * b) == str(number)
            reply = lay_out([Message("system", ""), *dialogue.messages[:2]], dialogue.functions, "react")[-1].spans
            reader = call_reader("react", [first], [CALCULATOR])
            read = collect([*reader.feed("".join(span.text for span in reply)), *reader.finish()])
            assert read.tool_calls == (call,)


def test_an_exercise_is_the_call_without_the_description():
    """The distances, over which digits are copied, are the same: only what is before the question differs."""
    described = next(row for row in rows() if "tools" in row)
    question = described["messages"][0]["content"]
    short = next(row for row in rows() if "tools" not in row and len(row["messages"]) == 4)

    def end(row: dict) -> str:
        dialogue = read_record(row)
        turns = lay_out([Message("system", ""), *dialogue.messages], dialogue.functions, "react")
        text = "".join(span.text for turn in turns[1:] for span in turn.spans)
        return re.sub(r"\d", "9", text[text.rindex("Question: ") :])

    assert end(described).startswith("Question: " + re.sub(r"\d", "9", question))
    shape = re.compile(r"9+|What is|Multiply|times|by|\*|\?")
    assert shape.sub("", end(described)).split() == shape.sub("", end(short)).split()
