import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall, render
from qianwen.chat.demonstrations import as_turns, is_example, split_examples
from qianwen.chat.functions import lay_out
from qianwen.chat.react import react_turns
from qianwen.chat.react_prompts import REACT_STYLES, react_instruction
from qianwen.runtime.errors import RequestError

ADD = FunctionSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "integer"}}})
EXAMPLE = [
    Message("user", "What is 1 + 2?", name="example"),
    Message("assistant", "I add.", tool_calls=(ToolCall("add", '{"a": 1}'),)),
    Message("tool", "3"),
    Message("assistant", "3."),
]
SECOND = [Message("user", "Hello?", name="example"), Message("assistant", "Hello.")]
QUESTION = Message("user", "What is 5 + 6?")
SOLVED = (
    'Question: What is 1 + 2?\nThought: I add.\nAction: add\nAction Input: {"a": 1}\nObservation: 3\n'
    "Thought: I now know the final answer.\nFinal Answer: 3."
)


def text(turn) -> str:
    return "".join(span.text for span in turn.spans)


def test_examples_are_found_between_the_messages():
    system = Message("system", "S")
    assert split_examples([system, *EXAMPLE, *SECOND, QUESTION]) == ([EXAMPLE, SECOND], [system, QUESTION])
    assert split_examples([QUESTION]) == ([], [QUESTION])
    assert is_example(EXAMPLE[0]) and not is_example(EXAMPLE[1]) and not is_example(QUESTION)


@pytest.mark.parametrize("style", list(REACT_STYLES))
def test_in_react_they_are_between_the_format_and_the_question(style):
    (turn,) = react_turns([*EXAMPLE, *SECOND, QUESTION], [ADD], style)
    prompt = react_instruction([ADD], style) + "\n\n" + SOLVED
    hello = "\n\nQuestion: Hello?\nThought: I now know the final answer.\nFinal Answer: Hello."
    assert text(turn) == prompt + hello + "\n\nQuestion: What is 5 + 6?" + REACT_STYLES[style].prompt_end


def test_elsewhere_they_are_earlier_turns_without_their_name():
    messages = [Message("system", "S"), *EXAMPLE, QUESTION]
    turns = lay_out(messages, [ADD], "tool_call")
    assert [turn.role for turn in turns] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert text(turns[1]) == "What is 1 + 2?" and "<tool_call>" in text(turns[2])
    assert [message.name for message in as_turns(messages)] == [None] * 6
    assert [turn.role for turn in react_turns([*EXAMPLE, QUESTION], [])] == ["user", "assistant", "user"]


def test_an_example_needs_an_answer(tokenizer):
    for broken in (EXAMPLE[:1], EXAMPLE[:2], EXAMPLE[:3]):
        for functions in ((), (ADD,)):
            with pytest.raises(RequestError, match=r"What is 1 \+ 2\?.*has no answer"):
                render([*broken, QUESTION], tokenizer, functions=functions)
    with pytest.raises(RequestError, match="no user message"):
        render(EXAMPLE, tokenizer, functions=[ADD])
