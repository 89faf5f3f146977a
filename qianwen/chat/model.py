"""`ChatModel`: the protocol that agents, judges and evaluation tasks use to call a model.

The engine (`engine/llm.py`), any OpenAI-compatible URL (`chat/client.py`) and test fakes implement it. A reply is a
stream of `Delta`s; `collect` joins them into one message, so there is no second method for unstreamed replies.

This module also has the rules that every implementation shares: which functions must be called, which response formats
exist, and which finish reason a reply with calls has.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "abort"]
ToolChoice = Literal["auto", "none", "required"] | str  # any other string is the name of a function
ResponseFormat = Literal["json_object"] | Mapping[str, Any] | None  # a mapping is a JSON schema
TOOL_CHOICES = ("auto", "none", "required")


@dataclass(frozen=True)
class Usage:
    """Number of tokens of one request.

    `cached_tokens` of the prompt came from the prefix cache; `reasoning_tokens` of the completion are thoughts.
    """

    prompt_tokens: int
    completion_tokens: int
    cached_tokens: int = 0
    reasoning_tokens: int = 0


@dataclass(frozen=True)
class Delta:
    """The next piece of a reply. A tool call is always complete. The last delta has `finish_reason` and `usage`.

    `reasoning` is text of the thoughts before the answer.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish_reason: FinishReason | None = None
    usage: Usage | None = None
    reasoning: str = ""


class ChatModel(Protocol):
    """A model that replies to a conversation. Closing the iterator early cancels the reply.

    `tool_choice`: the model decides (`auto`), calls are not allowed (`none`), one of the functions must be called
    (`required`), or the named function must be called. `response_format`: free text (None), any JSON object
    (`json_object`), or JSON that satisfies a schema. A value that is not supported raises RequestError.
    """

    def chat(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        tool_choice: ToolChoice = "auto",
        response_format: ResponseFormat = None,
        stop: Sequence[str] = (),
        **sampling: Any,
    ) -> Iterator[Delta]: ...


def forced_functions(functions: Sequence[FunctionSpec], tool_choice: ToolChoice) -> list[FunctionSpec]:
    """The functions of which one must be called; empty if no call is required. RequestError for an unknown choice."""
    if not isinstance(tool_choice, str):
        message = "tool_choice must be 'auto', 'none', 'required' or the name of a function; got {value!r}"
        raise RequestError(tr(message, value=tool_choice), param="tool_choice")
    if tool_choice in ("auto", "none"):
        return []
    if tool_choice == "required":
        if not functions:
            raise RequestError(tr("tool_choice 'required' needs at least one function in tools"), param="tool_choice")
        return list(functions)
    forced = [function for function in functions if function.name == tool_choice]
    if not forced:
        message = "tool_choice names the function '{name}', which is not in tools"
        raise RequestError(tr(message, name=tool_choice), param="tool_choice")
    return forced


def check_response_format(response_format: ResponseFormat) -> None:
    """Raise RequestError for anything but None, "json_object" or a JSON schema."""
    if not (response_format is None or response_format == "json_object" or isinstance(response_format, Mapping)):
        message = "response_format must be None, 'json_object' or a JSON schema; got {value!r}"
        raise RequestError(tr(message, value=response_format), param="response_format")


def check_sampling_names(names: Iterable[str], known: Collection[str]) -> None:
    """Raise RequestError, with the nearest known name, for a sampling parameter that does not exist."""
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            names = ", ".join(known)
            hint = tr("did you mean {name}?", name=near[0]) if near else tr("use one of {names}", names=names)
            raise RequestError(tr("unknown sampling parameter {name!r}; {hint}", name=name, hint=hint), param=name)


def finish_reason_after(reason: FinishReason, has_calls: bool) -> FinishReason:
    """OpenAI's rule: `stop` after a call becomes `tool_calls`. `length` stays: the last call may be incomplete."""
    return "tool_calls" if has_calls and reason == "stop" else reason


def collect(deltas: Iterable[Delta]) -> Message:
    """Join the deltas of one reply into the assistant's message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for delta in deltas:
        texts.append(delta.text)
        thoughts.append(delta.reasoning)
        calls.extend(delta.tool_calls)
    return Message("assistant", "".join(texts), tool_calls=tuple(calls), reasoning_content="".join(thoughts))
