"""One HTTP exchange with a client that may be slow, huge or gone.

    read_body       at most so many bytes (413) in so many seconds (408)
    while_present   an answer computed only as long as its client waits for it
    EventStream     an answer sent piece by piece; comments keep a silent connection alive, and a client that does not
                    take a piece in `SEND_SECONDS` is left

In both answers, a client that hangs up cancels the work at once: the cancelled generator aborts its engine requests, so
the slot and its blocks are free before anybody asks for them.
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
PING_SECONDS = 10.0  # proxies close connections that say nothing for long
SEND_SECONDS = 30.0  # for a client to take one piece, when all buffers on the way are full


class ClientGone(Exception):
    """The client hung up; there is nobody to answer."""


async def read_body(request: Request, limits: Limits) -> bytes:
    """The whole body. Raises `RequestError` 413 when it is too large, 408 when it comes too slowly."""
    too_large = RequestError(
        tr("the body is larger than {limit} bytes", limit=limits.max_body_bytes), status=413, code="body_too_large"
    )
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limits.max_body_bytes:
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
        message = tr("the body did not arrive within {seconds:g} s", seconds=limits.body_timeout)
        raise RequestError(message, status=408, code="body_timeout") from None
    return b"".join(chunks)


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_present(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Await `work`, or cancel it and raise `ClientGone` when the client hangs up first."""
    answer, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request.receive))
    try:
        await asyncio.wait((answer, gone), return_when=asyncio.FIRST_COMPLETED)
        if not answer.done():
            raise ClientGone
        return answer.result()
    finally:
        await _cancel(answer, gone)


async def _cancel(*tasks: asyncio.Future) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError, Exception):
            await task


class EventStream(Response):
    """Server-sent events from an async iterator of encoded pieces."""

    media_type = "text/event-stream"

    def __init__(self, pieces: AsyncIterator[bytes], held: ExitStack) -> None:
        """`held` is closed when the exchange ends, even if not one piece was ever asked for."""
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self.pieces, self.held = pieces, held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending, gone = asyncio.ensure_future(self._send(send)), asyncio.ensure_future(_gone(receive))
        with self.held:
            try:
                await asyncio.wait((sending, gone), return_when=asyncio.FIRST_COMPLETED)
                if sending.done():
                    with suppress(TimeoutError):  # it does not read; closing the connection unfinished tells it
                        sending.result()
            finally:
                await _cancel(sending, gone)

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
