import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.chat import FunctionSpec, Message, ToolCall
from qianwen.chat.react import ReActReader, react_turns
from qianwen.chat.react_prompts import react_instruction, react_prompt
from qianwen.runtime.errors import RequestError

SEARCH = FunctionSpec("google_search", "Finds pages.", [{"name": "q"}], "Google", "json")
CODE = FunctionSpec("python", "Runs code.", {"type": "object"}, args_format="code")


def fields(pieces) -> list[tuple[str, str]]:
    """Pieces of one field joined, a new entry wherever a field opens."""
    out: list[list[str]] = [["text", ""]]
    for piece in pieces:
        if piece.text:
            out[-1][1] += piece.text
        else:
            out.append([piece.field, ""])
    return [(name, text) for name, text in out if text or name != "text"]


def read(chunks, field="text"):
    reader = ReActReader(field)
    pieces = [piece for chunk in chunks for piece in reader.feed(chunk)]
    return fields([*pieces, *reader.finish()])


def test_the_prompt_equals_the_published_prompt():
    prompt = react_prompt([SEARCH, CODE], "What is new?")
    assert prompt.startswith(
        "Answer the following questions as best you can. You have access to the following APIs:\n\n"
        "google_search: Call this tool to interact with the Google API. What is the Google API useful for? "
        'Finds pages. Parameters: [{"name": "q"}] Format the arguments as a JSON object.\n\n'
        "python: Call this tool to interact with the python API. What is the python API useful for? Runs code. "
        'Parameters: {"type": "object"} '
        "Enclose the code within triple backticks (`) at the beginning and end of the code.\n\n"
        "Use the following format:\n\nQuestion: the input question you must answer\n"
    )
    assert "should be one of [google_search, python]\n" in prompt
    assert prompt.endswith("question\n\nBegin!\n\nQuestion: What is new?")
    assert len(react_instruction([SEARCH])) < len(react_instruction([SEARCH, CODE]))


def texts(turns):
    return [(turn.role, "".join(span.text for span in turn.spans)) for turn in turns]


def test_results_continue_the_turn_that_called():
    call = ToolCall("google_search", '{"q": "x"}')
    messages = [
        Message("system", "S"),
        Message("user", "\nWho? "),
        Message("assistant", "I must look.", tool_calls=(call,)),
        Message("tool", "Ann"),
        Message("assistant", "It is Ann."),
        Message("user", "Sure?"),
    ]
    turns = react_turns(messages, [SEARCH])
    answer = (
        'Thought: I must look.\nAction: google_search\nAction Input: {"q": "x"}\nObservation: Ann'
        "\nThought: I now know the final answer.\nFinal Answer: It is Ann."
    )
    asked = react_prompt([SEARCH], "Who?")
    assert texts(turns) == [("system", "S"), ("user", asked), ("assistant", answer), ("user", "Sure?")]
    assert [span.is_model for span in turns[2].spans] == [True, False, True]


def test_parallel_calls_are_written_one_after_another():
    calls = (ToolCall("a", "1"), ToolCall("b", "2"))
    messages = [
        Message("user", "q"),
        Message("assistant", "", tool_calls=calls),
        Message("tool", "A"),
        Message("tool", "B"),
    ]
    (_, text) = texts(react_turns(messages, [SEARCH]))[-1]
    want = (
        "Thought: \nAction: a\nAction Input: 1\nObservation: A\nThought: \nAction: b\nAction Input: 2\nObservation: B"
    )
    assert text == want


def test_the_instruction_is_in_the_newest_question_if_it_is_the_first():
    assert texts(react_turns([Message("user", "q")], [SEARCH])) == [("user", react_prompt([SEARCH], "q"))]
    assert texts(react_turns([Message("user", "q")], [])) == [("user", "q")]
    with pytest.raises(RequestError, match="must come after"):
        react_turns([Message("user", "q"), Message("tool", "x")], [SEARCH])
    with pytest.raises(RequestError, match="user"):
        react_turns([Message("system", "q")], [SEARCH])


@pytest.mark.parametrize(
    ("reply", "want"),
    [
        (
            'Thought: look\nAction: f\nAction Input: {"a": "x\\ny"}\nObservation: made up\nAction: g',
            [("thought", "look"), ("action", "f"), ("action_input", '{"a": "x\\ny"}'), ("observation", "")],
        ),
        ("Action:f\nAction Input：{}", [("action", "f"), ("action_input", "{}")]),
        (
            "Thought: yes\nFinal Answer: A:\nAction: not a call",
            [("thought", "yes"), ("final", "A:\nAction: not a call")],
        ),
        ("just text\nwith Action: inside", [("text", "just text\nwith Action: inside")]),
        ("Actions: none\nThoughtful", [("text", "Actions: none\nThoughtful")]),
        ("  Thought :  a  \n\n", [("thought", "a")]),
        ("", []),
    ],
)
def test_a_reply_is_read_by_its_labels(reply, want):
    assert read([reply]) == want
    assert read(reply) == want  # one character at a time


def test_a_prompt_that_ends_in_thought_begins_in_one():
    assert read([" now I know\nFinal Answer: 4"], "thought") == [("text", "now I know"), ("final", "4")]


WORDS = st.sampled_from(
    ["Thought:", "\n", "Action", " Input", ":", "：", "Final Answer:", "Observation", "{", '"a"', " ", "x", "好", "\t"]
)


@given(st.lists(WORDS, max_size=30), st.data())
def test_any_split_reads_the_same(words, data):
    reply = "".join(words)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(reply)), max_size=8)))
    chunks = [reply[a:b] for a, b in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
    assert read(chunks) == read([reply]) == read(reply)


def test_parameters_keep_their_characters():
    assert "杭州" in react_instruction([FunctionSpec("f", parameters={"city": "杭州"})])
    assert json.dumps({"q": 1}) in react_instruction([FunctionSpec("f", parameters={"q": 1})])
