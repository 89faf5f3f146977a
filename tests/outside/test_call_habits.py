"""Habits of models when they call tools, one test each: what the readers and the prompts make of them."""

import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, collect, render
from qianwen.chat.call_arguments import parse_arguments
from qianwen.chat.functions import call_reader
from qianwen.chat.react_prompts import REACT_STYLES
from qianwen.runtime.errors import ToolError
from tests.chat.conftest import byte_tokenizer

ADD = FunctionSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
RUN = FunctionSpec("run", "Runs code.", {"type": "object", "properties": {"code": {}}}, args_format="code")
OFFERED = [ADD, RUN]
V1, TAGS = byte_tokenizer(), byte_tokenizer("<tool_call>", "</tool_call>")
QUESTION = [Message("user", "q")]
CODE = "```py\ntext = '''\nThought: not a label\nAction: add\nAction Input: {}\nFinal Answer: 1\n'''\nprint(text)\n```"


def read(style: str, reply: str, messages=QUESTION) -> tuple[str, list[tuple[str, str]]]:
    """What a reply is, whole, character by character and cut at every place."""
    cuts = [[reply], list(reply), *([reply[:cut], reply[cut:]] for cut in range(len(reply)))]
    results = []
    for chunks in cuts:
        reader = call_reader(style, messages, OFFERED)
        deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
        message = collect([*deltas, *reader.finish()])
        results.append((message.text, [(call.name, call.arguments) for call in message.tool_calls]))
    assert all(result == results[0] for result in results)
    return results[0]


def call(name: str, arguments: str) -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


BOTH = [("add", '{"a": 1}'), ("add", '{"a": 2}')]


@pytest.mark.parametrize(
    ("style", "reply"),
    [
        ("tool_call", call("add", '{"a": 1}') + "\n" + call("add", '{"a": 2}')),
        ("tool_call", call("add", '{"a": 1}') + call("add", '{"a": 2}')),
        ("tool_call", '[{"name": "add", "arguments": {"a": 1}}, {"name": "add", "arguments": {"a": 2}}]'),
        ("react", 'Action: add\nAction Input: {"a": 1}\nAction: add\nAction Input: {"a": 2}'),
        ("react", 'Thought: \nAction: add\nAction Input: {"a": 1}\nThought: \nAction: add\nAction Input: {"a": 2}\n'),
    ],
)
def test_two_calls_in_one_turn_are_two_calls(style, reply):
    assert read(style, reply) == ("", BOTH)


@pytest.mark.parametrize("style", list(REACT_STYLES))
def test_the_same_call_again_is_the_same_text_again(style):
    """A repeated call stays in the history as often as it was made: the loop ends it, not the format."""
    again = [Message("assistant", "Again.", tool_calls=(ToolCall("add", "{}"),)), Message("tool", "0")]
    ids = render(
        [*QUESTION, *again * 3],
        V1,
        functions=OFFERED,
        add_generation_prompt=True,
        variables={"function_style": style},
    ).ids
    assert V1.decode(ids).count("Again.\nAction: add\nAction Input: {}\nObservation: 0") == 3


@pytest.mark.parametrize("style", ["tool_call", *REACT_STYLES])
@pytest.mark.parametrize("reply", ["", "\n", "\n\n  "])
def test_an_empty_reply_after_a_result_is_empty(style, reply):
    after = [*QUESTION, Message("assistant", "", tool_calls=(ToolCall("add", "{}"),)), Message("tool", "3")]
    text, calls = read(style, reply, after)
    assert not text.strip() and calls == []


@pytest.mark.parametrize("style", list(REACT_STYLES))
def test_labels_in_code_are_code(style):
    reply = f"Thought: I run it.\nAction: run\nAction Input: {CODE}\n"
    assert read(style, reply) == ("I run it.", [("run", CODE)])
    after = reply + "Final Answer: done"
    assert read(style, after) == ("I run it.done", [("run", CODE)])


def test_a_fence_that_stays_open_ends_with_the_reply():
    assert read("react", "Action: run\nAction Input:\n```py\nprint(1)") == ("", [("run", "```py\nprint(1)")])


def test_a_fence_inside_of_json_hides_no_label():
    reply = 'Action: add\nAction Input: {"a": "```"}\nThought: then\nAction: add\nAction Input: {}'
    assert read("react", reply)[1] == [("add", '{"a": "```"}'), ("add", "{}")]


def test_full_width_colons_end_labels_and_separate_fields():
    text, [(name, arguments)] = read("react", 'Thought：想\nAction：add\nAction Input：{"a"：1}')
    assert (text, name) == ("想", "add") and parse_arguments(ToolCall(name, arguments)) == {"a": 1}


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ('{"a": 1}\nI wait for the result.', {"a": 1}),
        ('{"a": "：，“”"}', {"a": "：，“”"}),
        ('{"a"：{"b"："：，"}，"c"：［1，2］}', {"a": {"b": "：，"}, "c": [1, 2]}),
        ("{“a”：“杭州”}", {"a": "杭州"}),
        ("{'a': True, 'b': None}", {"a": True, "b": None}),
        ("{'a': 'it''s'}", {"a": "its"}),
    ],
)
def test_arguments_are_read_despite_their_marks(arguments, want):
    assert parse_arguments(ToolCall("add", arguments)) == want


@pytest.mark.parametrize("arguments", ["{'a': open('x')}", "{1: 2}.keys()", "（", "[1]", "{" * 5000])
def test_what_is_no_object_is_an_error_and_never_run(arguments):
    with pytest.raises(ToolError, match="must be a JSON object"):
        parse_arguments(ToolCall("add", arguments))


@pytest.mark.parametrize(
    ("style", "reply"),
    [
        ("tool_call", call("nothing", "{}")),
        ("react", "Action: nothing\nAction Input: {}"),
        ("react", "Action: `nothing()`\nAction Input: {}"),
    ],
)
def test_an_unknown_name_is_a_call_that_the_loop_refuses(style, reply):
    assert read(style, reply) == ("", [("nothing", "{}")])


def test_a_bare_object_with_an_unknown_name_is_an_answer():
    reply = '{"name": "nothing", "arguments": {}}'
    assert read("tool_call", reply) == (reply, [])


def test_tags_are_a_call_wherever_they_are_and_bare_json_only_alone():
    """A model writes the tag to call, so in a fence too. Bare JSON beside any text is an example."""
    text, calls = read("tool_call", f"So:\n```\n{call('add', '{}')}\n```")
    assert calls == [("add", "{}")] and text == "So:\n```\n```"
    example = 'You write:\n```json\n{"name": "add", "arguments": {"a": 1}}\n```'
    assert read("tool_call", example) == (example, [])


def test_a_chosen_style_is_written_whatever_the_vocabulary_has():
    for each in (V1, TAGS):
        for style in ("react_tools", "tool_call"):
            ids = render(
                QUESTION, each, functions=[ADD], add_generation_prompt=True, variables={"function_style": style}
            ).ids
            text = each.decode(ids)
            assert ("following tools" in text) == (style == "react_tools")
            assert ("<tools>" in text) == (style == "tool_call")
