"""Parse the event stream of an OpenAI-compatible chat answer: bytes → JSON events → deltas.

    data: {"choices": [{"index": 0, "delta": {"content": "Hel"}, "finish_reason": null}]}
    data: {"choices": [], "usage": {…}}
    data: [DONE]

Only a line feed ends a line. `str.splitlines` would also split at U+2028 and other characters that JSON text may
contain. Tool calls arrive in pieces, each with an index; they are complete, and yielded, only at the end of the stream.
Not here: the connection and its retries (`chat/client.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, get_args

import httpx

from qianwen.chat.messages import ToolCall, new_call_id
from qianwen.chat.model import Delta, FinishReason, Usage, finish_reason_after
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

MAX_LINE_BYTES = 16 * 2**20
REASONS: dict[str, FinishReason] = {reason: reason for reason in get_args(FinishReason)} | {
    "function_call": "tool_calls"
}


def server_events(chunks: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events, up to [DONE] or the end. RequestError for other data."""
    for data in _data(_lines(chunks)):
        if data == b"[DONE]":
            return
        try:
            event = json.loads(data)
        except ValueError:
            event = None
        if not isinstance(event, dict):
            raise _malformed(data)
        if event.get("error"):
            raise server_error(502, data)
        yield event


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from (line.removesuffix(b"\r") for line in lines)
        if len(rest) > MAX_LINE_BYTES:
            raise _malformed(rest)
    yield from (rest.removesuffix(b"\r"), b"")  # an empty line ends the last event, even if the server left it out


def _data(lines: Iterable[bytes]) -> Iterator[bytes]:
    """The data of each event, its lines joined. Comments and other fields are ignored."""
    parts: list[bytes] = []
    for line in lines:
        if line.startswith(b"data:"):
            parts.append(line.removeprefix(b"data:").removeprefix(b" "))
        elif not line and parts:
            yield b"\n".join(parts)
            parts = []


def server_error(status: int, body: bytes, retry_after: float | None = None) -> RequestError:
    """The error for an error response, with the server's own message, in OpenAI's format or another."""
    text = body.decode("utf-8", "replace").strip()
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    fields = value if isinstance(value, dict) else {}
    error = fields.get("error", fields)
    error = error if isinstance(error, dict) else {"message": error}
    message = error.get("message") or fields.get("detail")
    if not isinstance(message, str):
        message = tr("the server returned status {status}: {text}", status=status, text=text[:200])
    details = {name: error[name] for name in ("param", "code") if isinstance(error.get(name), str)}
    return RequestError(message, status=status, retry_after=retry_after, **details)


class ReplyAssembler:
    """Turns the events of one answer into deltas."""

    def __init__(self) -> None:
        self._calls: dict[int, dict[str, str]] = {}  # by index: id, name and arguments received so far
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None

    def feed(self, event: dict[str, Any]) -> Iterator[Delta]:
        """The text of an event. Tool calls, finish reason and usage are stored until `finish`."""
        try:
            if event.get("usage"):
                self._usage = _usage(event["usage"])
            for choice in event.get("choices") or ():
                if (delta := self._choice(choice)).text or delta.reasoning:
                    yield delta
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _malformed(json.dumps(event).encode()) from error

    def finish(self) -> Iterator[Delta]:
        """The tool calls, then the last delta. An answer without a finish reason means that the connection was lost."""
        if self._reason is None:
            raise httpx.RemoteProtocolError(tr("the stream ended before the answer was complete"))
        calls = tuple(
            ToolCall(call["name"], call["arguments"], call["id"] or new_call_id())
            for _, call in sorted(self._calls.items())
        )
        if calls:
            yield Delta(tool_calls=calls)
        yield Delta(finish_reason=finish_reason_after(self._reason, bool(calls)), usage=self._usage)

    def _choice(self, choice: dict[str, Any]) -> Delta:
        delta = choice.get("delta") or {}
        for piece in delta.get("tool_calls") or ():
            self._add_to_call(piece)
        if reason := choice.get("finish_reason"):
            self._reason = REASONS.get(reason, "abort")
        if delta.get("refusal"):
            self._reason = "content_filter"
        text, thoughts = delta.get("content") or "", delta.get("reasoning_content") or ""
        if not (isinstance(text, str) and isinstance(thoughts, str)):
            raise TypeError("content is not text")
        return Delta(text=text, reasoning=thoughts)

    def _add_to_call(self, piece: dict[str, Any]) -> None:
        index = piece.get("index")
        index = len(self._calls) if index is None else int(index)
        call = self._calls.setdefault(index, {"id": "", "name": "", "arguments": ""})
        function = piece.get("function") or {}
        call["id"] = call["id"] or str(piece.get("id") or "")
        call["name"] += function.get("name") or ""
        call["arguments"] += function.get("arguments") or ""


def _usage(usage: dict[str, Any]) -> Usage:
    of_prompt, of_completion = (usage.get(f"{side}_tokens_details") or {} for side in ("prompt", "completion"))
    return Usage(
        int(usage["prompt_tokens"]),
        int(usage.get("completion_tokens") or 0),
        int(of_prompt.get("cached_tokens") or 0),
        int(of_completion.get("reasoning_tokens") or 0),
    )


def _malformed(data: bytes) -> RequestError:
    text = data[:200].decode("utf-8", "replace")
    return RequestError(tr("the server sent an event that is not in OpenAI's format: {text}", text=text), status=502)
