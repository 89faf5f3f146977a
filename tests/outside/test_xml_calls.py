"""Calls as Qwen3-Coder writes them, in XML: typed by the schema of the function, and read while they stream."""

import json
from unicodedata import is_normalized

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from qianwen.chat import FunctionSpec, Message, ToolCall, collect, render
from qianwen.chat.functions import call_reader

from .test_chat_templates import tokenizer

DAYS = {"type": "integer", "minimum": 1, "maximum": 9}
PROPERTIES = {
    "city": {"type": "string"},
    "days": DAYS,
    "share": {"type": "number"},
    "metric": {"type": "boolean"},
    "stops": {"type": "array", "items": {"type": "string"}},
    "range": {"type": "object", "properties": {"from": {"type": "integer"}}},
    "note": {"type": ["string", "null"]},
    "limit": {"type": ["integer", "null"]},
    "either": {"anyOf": [{"type": "integer"}, {"type": "boolean"}]},
    "level": {"enum": [1, 2, "auto"]},
    "ref": {"$ref": "#/$defs/count"},
    "any": {"description": "whatever"},
}
PLAN = FunctionSpec(
    "plan", "Plan a trip.", {"type": "object", "properties": PROPERTIES, "$defs": {"count": {"type": "integer"}}}
)
OPEN_ENDED = FunctionSpec("set", "", {"type": "object", "additionalProperties": {"type": "number"}})
OFFERED = [PLAN, OPEN_ENDED, FunctionSpec("now", "The time."), FunctionSpec("odd", "", {"properties": 7})]


def call(name: str, **values: str) -> str:
    """A call as the template of Qwen3-Coder writes it."""
    members = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in values.items())
    return f"<tool_call>\n<function={name}>\n{members}</function>\n</tool_call>"


def read(pieces: list[str]) -> tuple[str, tuple[ToolCall, ...]]:
    reader = call_reader("tool_call", [], OFFERED)
    message = collect([delta for piece in pieces for delta in reader.feed(piece)] + reader.finish())
    return message.text, message.tool_calls


def every_split(reply: str) -> tuple[str, tuple[ToolCall, ...]]:
    whole = read([reply])
    for pieces in [list(reply), *([reply[:cut], reply[cut:]] for cut in range(1, len(reply)))]:
        assert read(pieces) == whole, pieces
    return whole


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("city", "Paris", "Paris"),
        ("city", "42", "42"),
        ("city", "true", "true"),
        ("city", '{"a": 1}', '{"a": 1}'),
        ("city", "", ""),
        ("city", "  two\n\n lines \n", "  two\n\n lines \n"),
        ("city", 'say "hi" </function> <parameter=x> <b>', 'say "hi" </function> <parameter=x> <b>'),
        ("city", "</tool_call>", "</tool_call>"),
        ("city", "None", "None"),
        ("days", "3", 3),
        ("days", " 3 ", 3),
        ("days", "99", 99),  # out of range, but a number
        ("days", "three", "three"),
        ("days", "[3]", "[3]"),
        ("share", "0.5", 0.5),
        ("share", "-2e3", -2000.0),
        ("share", "NaN", "NaN"),
        ("metric", "true", True),
        ("metric", "True", True),
        ("metric", "False", False),
        ("metric", "yes", "yes"),
        ("stops", '["Lyon", "杭州"]', ["Lyon", "杭州"]),
        ("stops", "['Lyon', \"it's\"]", ["Lyon", "it's"]),
        ("stops", "__import__('os')", "__import__('os')"),
        ("stops", "[" * 5000, "[" * 5000),
        ("range", '{\n  "from": 1\n}', {"from": 1}),
        ("range", "{'from': None}", {"from": None}),
        ("note", "null", None),
        ("note", "5", "5"),
        ("limit", "None", None),
        ("limit", "5", 5),
        ("either", "7", 7),
        ("either", "true", True),
        ("either", "x", "x"),
        ("either", "[1]", "[1]"),
        ("level", "2", 2),
        ("level", "auto", "auto"),
        ("ref", "12", 12),
        ("any", "12", "12"),
        ("any", "null", "null"),
        ("unknown", "12", "12"),
    ],
)
def test_a_value_has_the_type_of_its_schema(key: str, text: str, value: object) -> None:
    content, calls = read([call("plan", **{key: text})])
    assert content == "" and [each.name for each in calls] == ["plan"]
    assert json.loads(calls[0].arguments) == {key: value}
    assert type(json.loads(calls[0].arguments)[key]) is type(value)


@pytest.mark.parametrize("number", ["1e400", "0.1000000000000000055", "12345678901234567890", "1.0"])
def test_numbers_stay_as_they_are_written(number: str) -> None:
    assert read([call("plan", share=number)])[1][0].arguments == f'{{"share": {number}}}'


@pytest.mark.parametrize(
    ("reply", "text", "calls"),
    [
        (call("now"), "", [ToolCall("now", "{}")]),
        ("<tool_call><function=now></function></tool_call>", "", [ToolCall("now", "{}")]),
        (f"I look.\n{call('now')}", "I look.", [ToolCall("now", "{}")]),
        (f"{call('now')}\n{call('plan', days='2')}", "", [ToolCall("now", "{}"), ToolCall("plan", '{"days": 2}')]),
        (call("elsewhere", days="2"), "", [ToolCall("elsewhere", '{"days": "2"}')]),
        (call("set", x="2", y="a"), "", [ToolCall("set", '{"x": 2, "y": "a"}')]),
        (call("odd", x="2"), "", [ToolCall("odd", '{"x": "2"}')]),
        (call("now").removesuffix("\n</tool_call>"), "", [ToolCall("now", "{}")]),
        (
            '<tool_call>\n<function=plan>\n<parameter=days>3</parameter></function>\n</tool_call>{"name": 1}',
            '{"name": 1}',
            [ToolCall("plan", '{"days": 3}')],
        ),
        (
            f'<tool_call>\n{{"name": "now", "arguments": {{}}}}\n</tool_call>\n{call("now")}',
            "",
            [ToolCall("now", "{}"), ToolCall("now", "{}")],
        ),
    ],
)
def test_calls_in_a_reply_at_every_split(reply: str, text: str, calls: list[ToolCall]) -> None:
    assert every_split(reply) == (text, tuple(calls))


@pytest.mark.parametrize(
    "reply",
    [
        "<tool_call>\n<function=plan>\n<parameter=days>\n3\n</function>\n</tool_call> and on",
        "<tool_call>\n<function=plan>\n<parameter=days>\n3\n</parameter>\n</tool_call> and on",
        "<tool_call>\n<function=>\n</function>\n</tool_call>",
        "<tool_call>\n<function=plan\n</function>\n</tool_call>",
        "<tool_call>\n<function=plan>\nplan it\n</function>\n</tool_call>",
        "<tool_call>\n<function=plan>\n<parameter=days>\n3\n</parameter>\n",
        "<tool_call>\n<function=now></function> then\n</tool_call>",
        "<function=now>\n</function>",
        "<tool_call>\n<function=now>",
    ],
)
def test_what_is_no_call_comes_back_as_it_was(reply: str) -> None:
    assert every_split(reply) == (reply, ())


PARTS = st.lists(
    st.sampled_from(
        [
            *("<tool_call>", "</tool_call>", "<function=plan>", "</function>", "<parameter=city>", "<parameter=days>"),
            *("</parameter>", "\n", "3", "Paris", '"', "{", "<", ">", "=", "text ", "杭", call("plan", city="a")),
        ]
    ),
    max_size=14,
)


@given(PARTS, st.data())
@example(["<tool_call>", "<function=plan>", "<parameter=city>", "</tool_call>", "</parameter>"], None)
def test_no_split_of_a_stream_changes_what_is_read(parts: list[str], data) -> None:
    reply = "".join(parts)
    places = range(len(reply) + 1)
    cuts = list(places) if data is None else sorted(data.draw(st.sets(st.sampled_from(places), max_size=6)))
    pieces = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    text, calls = read(pieces)
    assert (text, calls) == read([reply])
    assert calls or text == reply, "without a call nothing is lost"


CODER = """{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') }}
{%- for call in message.tool_calls or [] %}{%- set f = call.function %}
{{- '<tool_call>\\n<function=' + f.name + '>\\n' }}
{%- for key, value in f.arguments | items %}{{- '<parameter=' + key + '>\\n' }}
{%- if value is mapping or (value is sequence and value is not string) %}{{- value | tojson }}
{%- else %}{{- value | string }}{%- endif %}{{- '\\n</parameter>\\n' }}{%- endfor %}
{{- '</function>\\n</tool_call>' }}{%- endfor %}{{- '<|im_end|>\\n' }}{%- endfor %}
{%- for tool in tools or [] %}{{- tool | tojson }}{%- endfor %}"""

VALUES = {
    "city": st.text(st.characters(exclude_categories=["C"]), max_size=9).filter(
        lambda text: "<" not in text and is_normalized("NFC", text)
    ),
    "days": st.integers(),
    "share": st.floats(allow_nan=False, allow_infinity=False),
    "metric": st.booleans(),
    "stops": st.lists(st.sampled_from(["a", "杭", '"', "x y"]), max_size=3),
    "range": st.fixed_dictionaries({"from": st.integers()}),
    "limit": st.none() | st.integers(),
}


@given(st.fixed_dictionaries({}, optional=VALUES))
def test_a_call_that_the_template_writes_is_read_back(arguments: dict) -> None:
    ours = tokenizer(CODER)
    sent = ToolCall("plan", json.dumps(arguments, ensure_ascii=False))
    messages = [Message("user", "hi"), Message("assistant", "", tool_calls=(sent,))]
    text = ours.decode(render(messages, ours, functions=OFFERED).ids)
    reply = text[text.index("<tool_call>") : text.rindex("</tool_call>") + len("</tool_call>")]
    content, calls = read([reply])
    assert content == "" and json.loads(calls[0].arguments) == arguments
