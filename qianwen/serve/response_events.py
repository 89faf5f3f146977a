"""The answer of `/v1/responses`: one object, or the events that build it.

    response.created, response.in_progress
    response.output_item.added                     thoughts, a message, or a function call
        response.content_part.added
        response.output_text.delta, …              its text; of thoughts reasoning_text.delta
        response.output_text.done, response.content_part.done
        response.function_call_arguments.delta, .done    … of a function call
    response.output_item.done
    response.completed, .incomplete or .failed     the whole response

The pieces are those of a chat stream (`reply.py`). The object is built from the same events, so both are equal.
"""

from __future__ import annotations

import copy
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence
from typing import Any

from qianwen.runtime.errors import QianwenError
from qianwen.serve.protocol import event
from qianwen.serve.reply import Piece
from qianwen.serve.responses_protocol import ResponsesRequest

Event = dict[str, Any]
PREFIXES = {"message": "msg", "reasoning": "rs"}  # of ids
INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}


class ResponseAnswer:
    """One response: `completion` for a whole answer, `events` for a stream."""

    def __init__(self, request: ResponsesRequest, model: str) -> None:
        self._output: list[dict[str, Any]] = []  # the items so far; the last one is open while `_is_open`
        self._is_open = False
        self._finish_reason = ""
        self._sequence = 0
        # `request` as the caller sent it, without what is unset: a response repeats its settings
        sent = request.model_dump(mode="json", by_alias=True, exclude={"input", "stream", "stream_options", "include"})
        self._head = {
            **sent,
            "id": f"resp_{uuid.uuid4().hex}",
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "store": False,
            "tools": sent["tools"] or [],
            "tool_choice": sent["tool_choice"] or "auto",
            "text": {"format": (sent["text"] or {}).get("format") or {"type": "text"}},
            "truncation": "disabled",
            "background": False,
        }

    def completion(self, pieces: Sequence[Piece], usage: dict[str, Any]) -> dict[str, Any]:
        """The response that the pieces of a finished answer make."""
        for piece in pieces:
            list(self._feed(piece))
        list(self._close())
        return self._response(self._status(), usage)

    async def events(self, job: Any, pieces: AsyncGenerator[Piece, None]) -> AsyncIterator[bytes]:
        """The stream. An error of the engine ends it with `response.failed`."""
        try:
            for name in ("response.created", "response.in_progress"):
                yield self._encoded({"type": name, "response": self._response("in_progress")})
            async for piece in pieces:
                for each in self._feed(piece):
                    yield self._encoded(each)
            for each in self._close():
                yield self._encoded(each)
            status = self._status()
            yield self._encoded({"type": f"response.{status}", "response": self._response(status, job.usage())})
        except QianwenError as error:
            failed = {**self._response("failed"), "error": {"code": "server_error", "message": str(error)}}
            yield self._encoded({"type": "response.failed", "response": failed})
        finally:
            await pieces.aclose()

    def _encoded(self, data: Event) -> bytes:
        data["sequence_number"] = self._sequence
        self._sequence += 1
        return f"event: {data['type']}\n".encode() + event(data)

    def _feed(self, piece: Piece) -> Iterator[Event]:
        """The events of one piece of the answer."""
        delta = piece["delta"]
        logprobs = (piece["logprobs"] or {}).get("content", [])
        if delta.get("reasoning_content"):
            yield from self._add_text("reasoning", delta["reasoning_content"])
        is_thought = "reasoning_content" in delta or self._is_in("reasoning")
        if delta.get("content") or (logprobs and not is_thought):  # thoughts have no log-probabilities in this API
            yield from self._add_text("message", delta.get("content", ""), logprobs)
        for call in delta.get("tool_calls", ()):
            yield from self._close()
            yield from self._add_call(call["id"], call["function"])
        if delta.get("refusal"):
            yield from self._add_refusal(delta["refusal"])
        self._finish_reason = piece["finish_reason"] or self._finish_reason

    def _add_text(self, kind: str, text: str, logprobs: Sequence[Any] = ()) -> Iterator[Event]:
        """More text of the answer (`message`) or of the thoughts before it (`reasoning`)."""
        yield from self._open(kind)
        part = self._output[-1]["content"][0]
        part["text"] += text
        event = {"type": f"response.{part['type']}.delta", **self._place(), "delta": text}
        if kind == "message":
            part["logprobs"] += logprobs
            event["logprobs"] = list(logprobs)
        yield event

    def _open(self, kind: str) -> Iterator[Event]:
        """Begin an item with text, unless the open one is of this kind."""
        if self._is_in(kind):
            return
        yield from self._close()
        item: dict[str, Any] = {"id": f"{PREFIXES[kind]}_{uuid.uuid4().hex}", "type": kind, "status": "in_progress"}
        part: dict[str, Any] = {"type": "reasoning_text", "text": ""}
        if kind == "message":
            item["role"] = "assistant"
            part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        else:
            item["summary"] = []
        self._output.append({**item, "content": [part]})
        self._is_open = True
        yield {"type": "response.output_item.added", "output_index": self._index, "item": {**item, "content": []}}
        yield {"type": "response.content_part.added", **self._place(), "part": copy.deepcopy(part)}

    def _add_refusal(self, refusal: str) -> Iterator[Event]:
        """The reason why the filter of this server stopped the answer, as a second part of the message."""
        yield from self._open("message")
        part = {"type": "refusal", "refusal": refusal}
        self._output[-1]["content"].append(part)
        place = {**self._place(), "content_index": 1}
        yield {"type": "response.content_part.added", **place, "part": {"type": "refusal", "refusal": ""}}
        yield {"type": "response.refusal.delta", **place, "delta": refusal}
        yield {"type": "response.refusal.done", **place, "refusal": refusal}
        yield {"type": "response.content_part.done", **place, "part": part}

    def _add_call(self, call_id: str, function: dict[str, str]) -> Iterator[Event]:
        item = {
            "id": f"fc_{uuid.uuid4().hex}", "type": "function_call", "call_id": call_id, "name": function["name"],
            "arguments": function["arguments"], "status": "completed",
        }  # fmt: skip
        self._output.append(item)
        place = {"item_id": item["id"], "output_index": self._index}
        begun = {**item, "arguments": "", "status": "in_progress"}
        yield {"type": "response.output_item.added", "output_index": self._index, "item": begun}
        yield {"type": "response.function_call_arguments.delta", **place, "delta": item["arguments"]}
        done = {"name": item["name"], "arguments": item["arguments"]}
        yield {"type": "response.function_call_arguments.done", **place, **done}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": item}

    def _close(self) -> Iterator[Event]:
        """The end of the open item."""
        if not self._is_open:
            return
        self._is_open = False
        item = self._output[-1]
        item["status"] = "incomplete" if self._finish_reason in INCOMPLETE else "completed"
        part = item["content"][0]
        done = {name: part[name] for name in ("text", "logprobs") if name in part}
        yield {"type": f"response.{part['type']}.done", **self._place(), **done}
        yield {"type": "response.content_part.done", **self._place(), "part": part}
        yield {"type": "response.output_item.done", "output_index": self._index, "item": item}

    def _is_in(self, kind: str) -> bool:
        """Whether the open item is of this kind."""
        return self._is_open and self._output[-1]["type"] == kind

    @property
    def _index(self) -> int:
        return len(self._output) - 1

    def _place(self) -> dict[str, Any]:
        return {"item_id": self._output[-1]["id"], "output_index": self._index, "content_index": 0}

    def _status(self) -> str:
        return "incomplete" if self._finish_reason in INCOMPLETE else "completed"

    def _response(self, status: str, usage: dict[str, Any] | None = None) -> dict[str, Any]:
        reason = INCOMPLETE.get(self._finish_reason)
        return {
            **self._head,
            "status": status,
            "error": None,
            "incomplete_details": {"reason": reason} if reason else None,
            "output": list(self._output),
            "usage": None if usage is None else _usage(usage),
        }


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    """The usage of chat completions under the names of this API."""
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return {
        "input_tokens": usage["prompt_tokens"],
        "input_tokens_details": {"cached_tokens": cached, "cache_write_tokens": 0},
        "output_tokens": usage["completion_tokens"],
        "output_tokens_details": usage["completion_tokens_details"],
        "total_tokens": usage["total_tokens"],
    }
