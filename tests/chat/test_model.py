from collections.abc import Iterator, Sequence
from typing import Any

from qianwen.chat import ChatModel, Delta, FunctionSpec, Message, ToolCall, Usage, collect


class Parrot:
    """The smallest ChatModel."""

    def chat(self, messages: Sequence[Message], functions: Sequence[FunctionSpec] = (), **_: Any) -> Iterator[Delta]:
        for word in messages[-1].text.split(" "):
            yield Delta(text=word)
        for function in functions:
            yield Delta(tool_calls=(ToolCall(function.name, "{}"),))
        yield Delta(finish_reason="stop", usage=Usage(1, 2))


def test_collect_joins_deltas_into_one_message():
    model: ChatModel = Parrot()
    message = collect(model.chat([Message("user", "a b c")], [FunctionSpec("f"), FunctionSpec("g")]))
    assert message == Message("assistant", "abc", tool_calls=(ToolCall("f", "{}"), ToolCall("g", "{}")))
