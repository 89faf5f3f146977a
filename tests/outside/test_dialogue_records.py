"""Records as people really have them: each is read as it was meant, or refused in a sentence that names the field."""

import json
from typing import Any

import pytest

from qianwen.align.dialogues import all_rendered, read_dialogues
from qianwen.align.records import Dialogue, read_record
from qianwen.chat import render
from qianwen.runtime.errors import DataError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary

SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>", "</tool_call>")
TOOL = {"type": "function", "function": {"name": "weather", "description": "w", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """Bytes, with the tokens of Qwen2.5's calls."""
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + i for i, name in enumerate(SPECIALS)}, QWEN_PATTERN))


def openai(*turns: dict[str, Any], **row: Any) -> dict[str, Any]:
    """A record with a question before `turns`."""
    return {"messages": [{"role": "user", "content": "q"}, *turns], **row}


def sharegpt(*turns: dict[str, Any], **row: Any) -> dict[str, Any]:
    return {"conversations": [{"from": "human", "value": "q"}, *turns], **row}


def answer(text: Any = "a", **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **fields}


def call(arguments: Any) -> dict[str, Any]:
    return answer(None, tool_calls=[{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}])


def texts(dialogue: Dialogue) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in dialogue.messages]


def learned(row: dict[str, Any], tokenizer: Tokenizer, mask: Any = "clean") -> str:
    """The text with labels."""
    (out,) = all_rendered([read_record(row)], tokenizer, mask)
    return tokenizer.decode([token for token, label in zip(out.ids, out.loss_mask, strict=True) if label])


@pytest.mark.parametrize(
    ("arguments", "written"),
    [
        ({"city": "Paris"}, {"city": "Paris"}),
        ('{"city": "Paris"}', {"city": "Paris"}),
        ('"{\\"city\\": \\"Paris\\"}"', {"city": "Paris"}),
        (json.dumps(json.dumps(json.dumps({"a": 1}))), {"a": 1}),
        ("", {}),
        ("  ", {}),
        ("null", {}),
        (None, {}),
        ({}, {}),
        ({"城": "杭州", "quote": '"'}, {"城": "杭州", "quote": '"'}),
        ({"flag": True, "none": None, "n": [1, 2.5]}, {"flag": True, "none": None, "n": [1, 2.5]}),
        ({"id": 12345678901234567890}, {"id": 12345678901234567890}),
        ([1, "two"], [1, "two"]),
        (5, 5),
    ],
)
@pytest.mark.parametrize("form", ["tool_calls", "flat", "function_call", "text", "sharegpt", "sharegpt object"])
def test_arguments_of_calls_are_json_in_the_prompt(
    arguments: Any, written: Any, form: str, tokenizer: Tokenizer
) -> None:
    function = {"name": "f", "arguments": arguments}
    rows = {
        "tool_calls": openai(call(arguments)),
        "flat": openai(answer("", tool_calls=[function])),
        "function_call": openai(answer(None, function_call=function)),
        "text": openai(answer(None, tool_calls=json.dumps([{"function": function}]))),
        "sharegpt": sharegpt({"from": "function_call", "value": json.dumps(function)}),
        "sharegpt object": sharegpt({"from": "function_call", "value": function}),
    }
    text = learned(rows[form], tokenizer)
    body = text.split("<tool_call>")[1].split("</tool_call>")[0]
    assert json.loads(body) == {"name": "f", "arguments": written}
    assert "'" not in body and "\\u" not in body  # neither a Python repr nor escapes instead of characters


def test_code_as_arguments_stays_code(tokenizer: Tokenizer) -> None:
    (message,) = (m for m in read_record(openai(call("print('hi')"))).messages if m.role == "assistant")
    assert message.tool_calls[0].arguments == "print('hi')"


@pytest.mark.parametrize("switch", [{"weight": 0}, {"train": False}, {"loss": False}, {"weight": 0.0}, {"train": 0}])
@pytest.mark.parametrize("mask", ["clean", "memo", "reference"])
def test_excluded_turns_have_no_labels(switch: dict[str, Any], mask: str, tokenizer: Tokenizer) -> None:
    user = {"role": "user", "content": "u2"}
    row = openai(answer("BAD", **switch), user, answer("GOOD"))
    text = learned(row, tokenizer, mask)
    assert "BAD" not in text and "GOOD<|im_end|>" in text
    if mask == "clean":
        assert text == "GOOD<|im_end|>"
    names = {"role": "from", "content": "value"}
    same = {"conversations": [{names.get(k, k): v for k, v in turn.items()} for turn in row["messages"]]}
    assert learned(same, tokenizer, mask) == text


@pytest.fixture(scope="module")
def react_tokenizer() -> Tokenizer:
    """Without tokens of calls: functions are ReAct, where results and answers share one turn."""
    names = {name: 256 + i for i, name in enumerate(SPECIALS[:3])}
    return Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, names, QWEN_PATTERN))


def test_excluded_calls_have_no_labels(tokenizer: Tokenizer, react_tokenizer: Tokenizer) -> None:
    bad = call({"x": 1}) | {"weight": 0}
    row = openai(bad, {"role": "tool", "content": "r"}, answer("GOOD"), tools=[TOOL])
    assert learned(row, tokenizer) == "GOOD<|im_end|>"
    text = learned(row, react_tokenizer)
    assert "Action Input" not in text and text.endswith("Final Answer: GOOD<|im_end|>")


def test_an_answer_that_shares_its_turn_is_not_half_excluded(
    react_tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = [{"function": {"name": "f", "arguments": {"n": n}}} for n in (1, 2)]
    result = {"role": "tool", "content": "r"}
    row = openai(answer("", tool_calls=calls, weight=0), result, result, answer("GOOD"), tools=[TOOL])
    assert all_rendered([read_record(row)], react_tokenizer, "clean") == []
    assert "joins several answers" in capsys.readouterr().out


@pytest.mark.parametrize("switch", [{"weight": 1}, {"train": True}, {"loss": True}, {"weight": None}, {"loss": None}])
def test_turns_that_are_not_excluded_are_learned(switch: dict[str, Any], tokenizer: Tokenizer) -> None:
    assert learned(openai(answer("GOOD", **switch)), tokenizer) == "GOOD<|im_end|>"


def test_an_empty_answer_is_not_learned(tokenizer: Tokenizer) -> None:
    row = openai(answer(""), {"role": "user", "content": "u2"}, answer("GOOD"))
    assert learned(row, tokenizer) == "GOOD<|im_end|>"


QA = [("user", "q"), ("assistant", "a")]


@pytest.mark.parametrize(
    ("row", "read"),
    [
        ({"messages": [], **sharegpt({"from": "gpt", "value": "a"})}, QA),
        ({"messages": None, **sharegpt({"from": "gpt", "value": "a"})}, QA),
        ({"messages": json.dumps(openai(answer())["messages"])}, QA),
        ({"conversations": openai(answer())["messages"]}, QA),
        ({"messages": sharegpt({"from": "gpt", "value": "a"})["conversations"]}, QA),
        ({"conversation": sharegpt({"from": "gpt", "value": "a"})["conversations"]}, QA),
        ({"conversations": [{"from": "Human", "value": "q"}, {"from": "GPT", "value": "a"}]}, QA),
        (openai({"role": "model", "content": "a"}), QA),
        (openai(answer([{"type": "text", "text": "a"}])), QA),
        (openai(answer(None, refusal="a")), QA),
        (openai(answer("a", name=None, tool_calls=None, function_call={}, refusal=None, audio=None)), QA),
        (openai(answer("a"), tools=None), QA),
        (openai(answer("a"), tools="", system=None), QA),
        (openai(answer("a", reasoning_content="hm")), [("user", "q"), ("assistant", "<think>\nhm\n</think>\n\na")]),
        ({"prompt": "q", "completion": "a"}, QA),
        ({"prompt": [{"role": "user", "content": "q"}], "completion": [answer()]}, QA),
        ({"prompt": "q", "response": "a"}, QA),
        ({"question": "q", "answer": "a"}, QA),
        ({"query": "q", "response": "a", "history": []}, QA),
        ({"query": "q", "response": "a", "history": None, "system": ""}, QA),
        ({"query": "q", "response": "a", "history": [["h", "i"]]}, [("user", "h"), ("assistant", "i"), *QA]),
        ({"query": "q", "response": "a", "history": [answer("i")]}, [("assistant", "i"), *QA]),
        ({"instruction": "q", "output": "a", "history": None, "input": None}, QA),
        ({"instruction": "q", "output": "a", "history": "", "system": "S"}, [("system", "S"), *QA]),
        ({"instruction": "q", "response": "a", "context": "c"}, [("user", "q\nc"), ("assistant", "a")]),
        (sharegpt({"from": "system", "value": "S"}, {"from": "gpt", "value": "a"}), [QA[0], ("system", "S"), QA[1]]),
        (
            openai(call("{}"), {"role": "tool", "content": {"t": 18}}, answer()),
            [("user", "q"), ("assistant", ""), ("tool", '{"t": 18}'), ("assistant", "a")],
        ),
        (
            openai(call("{}"), {"role": "tool", "content": [{"type": "text", "text": "18"}]}, answer()),
            [("user", "q"), ("assistant", ""), ("tool", "18"), ("assistant", "a")],
        ),
        (
            sharegpt({"from": "observation", "value": [1, None]}, {"from": "gpt", "value": "a"}),
            [("user", "q"), ("tool", "[1, null]"), ("assistant", "a")],
        ),
    ],
)
def test_odd_forms_are_read_as_they_were_meant(row: dict[str, Any], read: list[tuple[str, str]]) -> None:
    assert texts(read_record(row)) == read


@pytest.mark.parametrize(
    "tools",
    [[TOOL], json.dumps([TOOL]), [json.dumps(TOOL)], TOOL, json.dumps(TOOL), [TOOL["function"]], [json.dumps([TOOL])]],
)
@pytest.mark.parametrize("field", ["tools", "functions"])
def test_functions_in_every_encoding(tools: Any, field: str) -> None:
    (function,) = read_record(openai(answer(), **{field: tools})).functions
    assert function.name == "weather" and function.parameters == {"type": "object"}


@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        (openai(answer(5)), r"`messages\[1\].content` must be text or a list of parts; got 5"),
        (openai(answer({"text": "a"})), r"`messages\[1\].content` must be text"),
        (
            {"messages": [{"role": "user", "content": None}, answer()]},
            r"`messages\[0\].content` must be text .*got null",
        ),
        (openai(answer(["a"])), r"`messages\[1\].content` must be text"),
        (openai(answer("a", weight=0.5)), r"`messages\[1\].weight` must be 0, 1, true or false; got 0.5"),
        (openai(answer("a", weight="0")), r"`messages\[1\].weight` must be 0, 1"),
        (openai(answer("a", train="no")), r"`messages\[1\].train` must be 0, 1"),
        (openai(answer("a", loss=[0])), r"`messages\[1\].loss` must be 0, 1"),
        ({"messages": [{"role": "user", "content": "q", "loss": True}, answer()]}, "only answers are learned"),
        (openai(answer("a", weight=0)), "every answer is excluded from training"),
        (openai(answer("")), "every answer is empty"),
        (openai(answer(None)), "every answer is empty"),
        (openai(answer(" \n")), "every answer is empty"),
        (openai(answer("a", tool_calls=7)), r"`messages\[1\].tool_calls` must be a list; got 7"),
        (openai(answer("a", tool_calls="no JSON")), r"`messages\[1\].tool_calls` must be JSON"),
        (openai(answer("a", tool_calls=[5])), r"`messages\[1\]`: A tool call needs a function with a name; got 5"),
        (openai(answer("a", tool_calls=[{"function": None}])), "A tool call needs a function with a name"),
        (openai(call({"x": float("inf")})), r"`messages\[1\]`: The arguments .* are not valid JSON"),
        (openai(answer([{"type": "image_url", "image_url": {"url": "x"}}])), r"`messages\[1\]`: this model reads text"),
        (openai(answer([{"type": "thing"}])), r"`messages\[1\]`: A content part must be"),
        (openai("hello"), r"`messages\[1\]` must be an object with `role` and `content`"),
        (openai({"content": "a"}), r"`messages\[1\].role` is missing"),
        (openai({"role": "narrator", "content": "a"}), r'`messages\[1\].role` must be one of .*; got "narrator"'),
        (sharegpt({"from": None, "value": "a"}), r"`conversations\[1\].from` must be one of .*; got null"),
        (sharegpt({"from": "gpt"}), r"`conversations\[1\].value` is missing"),
        (sharegpt({"from": "function_call", "value": "no JSON"}), r"`conversations\[1\].value` must be JSON"),
        (sharegpt({"from": "function_call", "value": None}), r"`conversations\[1\].value` must be a list; got null"),
        (openai(answer(), system=["S"]), r'`system` must be text; got \["S"\]'),
        (openai(answer(), system=5), "`system` must be text; got 5"),
        (sharegpt({"from": "gpt", "value": "a"}, system={"text": "S"}), "`system` must be text"),
        ({"messages": "hello"}, '`messages` must be a list of turns; got "hello"'),
        ({"messages": {"role": "user"}}, "`messages` must be a list of turns"),
        (openai(answer(), tools="no JSON"), "`tools` must be JSON"),
        (openai(answer(), tools=7), "`tools` must be a list; got 7"),
        (openai(answer(), tools=[7]), "`tools`: A function must be a JSON object"),
        (openai(answer(), functions=[{"parameters": {}}]), "`functions`: A function needs a name"),
        ({"instruction": "q", "output": 2}, "`output` must be text; got 2"),
        ({"instruction": "q", "output": ["a"]}, r'`output` must be text; got \["a"\]'),
        ({"instruction": "q", "output": None}, "`output` must be text; got null"),
        ({"instruction": "q", "input": 3, "output": "a"}, "`input` must be text; got 3"),
        ({"instruction": "q", "output": "a", "history": [["h", None]]}, r"`history\[0\]` must be text; got null"),
        ({"instruction": "q", "output": "a", "history": [["h", 5]]}, r"`history\[0\]` must be text; got 5"),
        ({"query": "q", "response": "a", "history": [["h"]]}, r"`history\[0\]` must be a pair"),
        ({"query": "q", "response": "a", "history": "none"}, "`history` must be a list of pairs"),
        ({"prompt": "q", "completion": {}}, "`completion` must be text"),
        ({"text": "<|im_start|>user"}, "it is plain text"),
        ({"prompt": "p", "chosen": "a", "rejected": "b"}, "it compares two answers"),
        (openai(answer(), kto_tag=False), "kto_tag"),
        (openai(answer(), images=["a.png"]), "`images`"),
        ({"id": 1}, "neither `messages`, nor"),
        ([], r"expected a JSON object; got \[\]"),
        (None, "expected a JSON object; got null"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(row: Any, sentence: str) -> None:
    with pytest.raises(DataError, match=sentence):
        read_record(row)


PRIVATE = {"all_answers_empty", "alpaca_empty_out", "alpaca_history_null", "alpaca_history_num", "alpaca_num_output",
           "chosen", "content_num", "empty_assistant", "image_part", "list_output", "null_content_no_call",
           "system_field_list", "system_field_num", "text_only", "unknown_from"}  # fmt: skip


def test_the_files_of_public_reports(shared: Any, tokenizer: Tokenizer) -> None:
    folder = shared / "data" / "outside" / "dialogues"
    if not folder.is_dir():
        pytest.skip("these files are not in the reference data")
    for file in sorted(folder.glob("*.jsonl")):
        if file.stem in PRIVATE:
            with pytest.raises(DataError, match="none of .* records? can be used"):
                list(read_dialogues(file))
            continue
        for dialogue in read_dialogues(file):
            ids = render(dialogue.messages, tokenizer, functions=dialogue.functions).ids
            assert "{'" not in tokenizer.decode(ids), file.name
