"""Who may come in, and with how much: every limit is checked before a request costs anything.

In the order they bite: is the server draining (503), is the key's rate or daily quota spent (429), does the prompt with
its answer fit the context (400 `context_length_exceeded`; never cut silently), is there room in the queue (429 with
Retry-After). A request holds its `Ticket` until its connection ends, however that happens.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.store import Key, Store


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What one server takes on at once."""

    max_body_bytes: int = 4 * 2**20
    body_timeout: float = 20.0  # seconds for a client to send its body
    max_requests: int = 256  # running and waiting together
    max_queued_tokens: int = 1_000_000  # prompt and answer tokens promised to requests in flight
    drain_seconds: float = 30.0  # after SIGTERM, for what is running


class Admission:
    """Counts what is in flight against the limits."""

    def __init__(self, limits: Limits, store: Store | None = None):
        self.limits = limits
        self.draining = False
        self.requests = 0
        self.tokens = 0
        self._store = store
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = {}
        self._promised: Counter[str] = Counter()  # tokens in flight of each key

    @contextmanager
    def admit(self, key: Key | None, num_tokens: int) -> Iterator[None]:
        """Hold room for a request of `num_tokens` (all prompts and the longest answers); raises `RequestError`."""
        with self._lock:
            self._check(key, num_tokens)
            self._hold(key, 1, num_tokens)
        try:
            yield
        finally:
            with self._lock:
                self._hold(key, -1, -num_tokens)

    def _hold(self, key: Key | None, requests: int, tokens: int) -> None:
        self.requests += requests
        self.tokens += tokens
        if key is not None:
            self._promised[key.name] += tokens
            if not self._promised[key.name]:
                del self._promised[key.name]

    def _check(self, key: Key | None, num_tokens: int) -> None:
        if self.draining:
            raise RequestError(tr("the server is shutting down"), status=503, code="draining")
        if self.requests >= self.limits.max_requests or (
            self.requests and self.tokens + num_tokens > self.limits.max_queued_tokens
        ):
            raise RequestError(
                tr("the queue is full: {requests} requests in flight; try again soon", requests=self.requests),
                status=429, code="queue_full", retry_after=2,
            )  # fmt: skip
        if key is not None:
            self._check_rate(key)
            self._check_quota(key)

    def _check_rate(self, key: Key) -> None:
        if key.requests_per_minute is None:
            return
        now, times = time.monotonic(), self._recent.setdefault(key.name, deque())
        while times and now - times[0] > 60:
            times.popleft()
        if len(times) >= key.requests_per_minute:
            wait = int(60 - (now - times[0])) + 1
            message = tr("key {name} may make {limit} requests a minute", name=key.name, limit=key.requests_per_minute)
            raise RequestError(message, status=429, code="rate_limit_exceeded", retry_after=wait)
        times.append(now)

    def _check_quota(self, key: Key) -> None:
        if key.tokens_per_day is None or self._store is None:
            return
        if self._store.tokens_today(key.name) + self._promised[key.name] >= key.tokens_per_day:
            message = tr("key {name} has used its {limit} tokens of today", name=key.name, limit=key.tokens_per_day)
            raise RequestError(message, status=429, code="insufficient_quota", retry_after=3600)


def answer_limit(num_prompt_tokens: int, max_tokens: int | None, context: int) -> int:
    """Tokens an answer may have: what was asked, or the rest of the context. 400 when the prompt and it do not fit."""
    room = context - num_prompt_tokens
    wanted = 1 if max_tokens is None else max_tokens
    if wanted > room:
        message = tr(
            "this model's context is {context} tokens; the prompt has {prompt} and the answer asks for {answer}."
            " Shorten the messages or lower max_tokens",
            context=context, prompt=num_prompt_tokens, answer=wanted,
        )  # fmt: skip
        raise RequestError(message, status=400, param="messages", code="context_length_exceeded")
    return room if max_tokens is None else max_tokens
