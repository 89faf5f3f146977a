"""One HTTP request and response, with a client that may be slow, send too much, or disconnect.

    read_body              limits the size (413) and the time (408) of the body
    run_until_disconnect   computes an answer, and cancels it if the client disconnects
    EventStream            streams an answer; comments keep the connection open during long pauses, and a client that
                           does not read a piece within `SEND_SECONDS` is disconnected

In both kinds of answer a disconnect cancels the work at once: the cancelled generator aborts its engine requests, which
frees their places in the batch and their cache blocks.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import ExitStack, suppress
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.admission import Limits

Answer = TypeVar("Answer")
PING_SECONDS = 10.0  # between comments; proxies close connections without data
SEND_SECONDS = 30.0  # that a client has to read one piece when all buffers are full


class ClientDisconnected(Exception):
    """The client has closed the connection, so no response is sent."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """The complete body. Raises `RequestError` 413 if it is too large, 408 if it takes too long."""
    too_large = RequestError(
        tr("the request body is larger than the limit of {limit} bytes", limit=limits.max_body_bytes),
        status=413,
        code="body_too_large",
    )
    content_length = request.headers.get("content-length", "")
    if content_length.isdecimal() and int(content_length) > limits.max_body_bytes:
        raise too_large
    chunks, size = [], 0
    try:
        async with asyncio.timeout(limits.body_timeout):
            async for chunk in request.stream():
                size += len(chunk)
                if size > limits.max_body_bytes:
                    raise too_large
                chunks.append(chunk)
    except TimeoutError:
        message = tr("the request body did not arrive within {seconds:g} s", seconds=limits.body_timeout)
        raise RequestError(message, status=408, code="body_timeout") from None
    return b"".join(chunks)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def run_until_disconnect(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Await `work`, or cancel it and raise `ClientDisconnected` if the client disconnects first."""
    answer, disconnect = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request.receive))
    try:
        await asyncio.wait((answer, disconnect), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientDisconnected
        return answer.result()
    finally:
        await _cancel(answer, disconnect)


async def _cancel(*tasks: asyncio.Future) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


class EventStream(Response):
    """Server-sent events from an async iterator of encoded pieces."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[bytes], cleanup: ExitStack) -> None:
        """`cleanup` is closed when the response ends, even if it ends before the first piece."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.pieces, self.cleanup = pieces, cleanup

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, disconnect = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_disconnected(receive))
        with self.cleanup:
            try:
                await asyncio.wait((sending, disconnect), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    with suppress(
                        TimeoutError
                    ):  # the client does not read; closing the unfinished response is its error signal
                        sending.result()
            finally:
                await _cancel(sending, disconnect)

    async def _send(self, send_now: Send) -> None:
        async def send(message: Message) -> None:
            async with asyncio.timeout(SEND_SECONDS):
                await send_now(message)

        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        pieces = self.pieces.__aiter__()
        upcoming = asyncio.ensure_future(anext(pieces))
        try:
            while True:
                done, _ = await asyncio.wait((upcoming,), timeout=PING_SECONDS)
                if not done:
                    await send({"type": "http.response.body", "body": b": waiting\n\n", "more_body": True})
                    continue
                await send({"type": "http.response.body", "body": upcoming.result(), "more_body": True})
                upcoming = asyncio.ensure_future(anext(pieces))
        except StopAsyncIteration:
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            await _cancel(upcoming)
            await self.pieces.aclose()  # type: ignore[attr-defined]
