"""One answer or two answers to a question, while they grow: the first model's, and that of a model compared with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from qianwen.serve.chat_routes import Job
from qianwen.serve.reply import Piece
from qianwen.serve.ui.turns import Turn, answer_turn


@dataclass
class Side:
    """The answer of one model while it grows; `begun` is what it already has, empty for a new answer."""

    number: int  # 0: of the first model, 1: of the one compared with it
    job: Job
    used: int  # tokens of the context in use
    begun: Turn
    end: str = ""  # the finish reason; empty while the answer is not finished
    speed: float = 0.0  # tokens per second since the first one

    def __post_init__(self) -> None:
        self._text, self._reasoning = self.begun.get("content", ""), self.begun.get("reasoning_content", "")
        self._first_at = 0.0  # time of the first token

    def feed(self, piece: Piece) -> None:
        """Add a piece of the stream."""
        delta, usage = piece["delta"], self.job.usage()
        self._text += delta.get("content") or ""
        self._reasoning += delta.get("reasoning_content") or ""
        self._first_at = self._first_at or time.monotonic()
        seconds, num_tokens = time.monotonic() - self._first_at, usage["completion_tokens"]
        self.speed = (num_tokens - 1) / seconds if num_tokens > 1 and seconds > 0 else 0.0
        self.used, self.end = usage["total_tokens"], piece["finish_reason"] or self.end

    def turn(self, end: str) -> Turn | None:
        """The answer so far, which ended by `end` if it is not finished; None before its first token."""
        if not self._text and not self._reasoning:
            return None
        return answer_turn(self._text, self._reasoning, self.end or end, self.job.served.name)


async def merged(streams: Sequence[AsyncGenerator[Piece, None]]) -> AsyncGenerator[tuple[int, Piece], None]:
    """The pieces of several streams as they come, each with the number of its stream. Leaving early closes them all."""
    queue: asyncio.Queue[tuple[int, Piece] | Exception | None] = asyncio.Queue()

    async def follow(number: int, stream: AsyncGenerator[Piece, None]) -> None:
        try:
            async with aclosing(stream):
                async for piece in stream:
                    queue.put_nowait((number, piece))
        except Exception as error:
            queue.put_nowait(error)
        finally:
            queue.put_nowait(None)

    tasks = [asyncio.ensure_future(follow(number, stream)) for number, stream in enumerate(streams)]
    try:
        num_open = len(tasks)
        while num_open:
            item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                num_open -= 1
            else:
                yield item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
