"""A model that replies from a script, and tools that note what was done."""

import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from qianwen.agents.journal import Journal
from qianwen.agents.tool import CallContext, Effect, Observation, Tool
from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.chat.model import Delta, Usage

Turn = str | Sequence[ToolCall] | tuple[str, Sequence[ToolCall]] | Exception
TEXT = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}


def call(name: str, arguments: str | None = None, **values: Any) -> ToolCall:
    return ToolCall(name, json.dumps(values) if arguments is None else arguments)


class Script:
    """Replies with the turn whose number is that of the assistant's messages so far, so it can be killed and go on.

    A turn may be a function of the request. `requests` are the arguments of every `chat`.
    """

    def __init__(self, *turns: Turn | Callable[..., Turn]) -> None:
        self.turns, self.requests, self.num_open = turns, [], 0

    def chat(
        self, messages: Sequence[Message], functions: Sequence[FunctionSpec] = (), **settings: Any
    ) -> Iterator[Delta]:
        request = {"messages": list(messages), "functions": list(functions), **settings}
        self.requests.append(request)
        number = sum(message.role == "assistant" for message in messages)
        turn = self.turns[min(number, len(self.turns) - 1)]
        return self._stream(turn(request) if callable(turn) else turn)

    def _stream(self, turn: Turn) -> Iterator[Delta]:
        self.num_open += 1
        try:
            if isinstance(turn, Exception):
                raise turn
            text, calls = turn if isinstance(turn, tuple) else (turn, ()) if isinstance(turn, str) else ("", turn)
            for start in range(0, len(text), 4):
                yield Delta(text=text[start : start + 4])
            for each in calls:
                yield Delta(tool_calls=(each,))
            yield Delta(finish_reason="tool_calls" if calls else "stop", usage=Usage(10, 5))
        finally:
            self.num_open -= 1


def tool(
    name: str, effect: Effect = "none", run: Callable[..., Any] | None = None, parameters: Any = TEXT, **fields: Any
) -> Tool:
    """By default it echoes its text."""

    def echo(arguments: Any, context: CallContext) -> Observation:
        return Observation(f"{name}: {arguments.get('text', '')}")

    return Tool(spec=FunctionSpec(name, f"Does {name}.", parameters), run=run or echo, effect=effect, **fields)


@pytest.fixture
def journal() -> Iterator[Journal]:
    """In memory, if there is a folder that is: to wait for the disk takes most of the time of a small run."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as folder:
        journal = Journal(folder)
        yield journal
        journal.close()
