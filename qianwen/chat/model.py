"""`ChatModel`: what agents, judges and evaluation tasks know of a model.

The engine (`engine/llm.py`), any OpenAI-compatible URL (`chat/client.py`) and the fakes of the tests speak it. A reply
is a stream of `Delta`s; `collect` turns it into the message it spells, so nobody needs a second, unstreamed call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from qianwen.chat.messages import FunctionSpec, Message, ToolCall

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "abort"]


@dataclass(frozen=True)
class Usage:
    """Tokens of one exchange; `cached_tokens` of the prompt were not computed again."""

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0


@dataclass(frozen=True)
class Delta:
    """The next piece of a reply; a call arrives whole. The last one carries `finish_reason` and `usage`."""

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None


class ChatModel(Protocol):
    """Anything that answers a conversation. Closing the iterator early cancels the answer."""

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Delta]: ...


def collect(deltas: Iterable[Delta]) -> Message:
    """The assistant's message that a stream of deltas spells."""
    texts: list[str] = []
    calls: list[ToolCall] = []
    for delta in deltas:
        texts.append(delta.text)
        calls.extend(delta.tool_calls)
    return Message("assistant", "".join(texts), tool_calls=tuple(calls))
