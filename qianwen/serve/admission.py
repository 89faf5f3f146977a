"""Admission control: every limit is checked before a request uses the engine.

    context   prompt and answer must fit the model's context: 400 `context_length_exceeded`; no text is cut silently
    drain     the server is shutting down: 503
    queue     too many requests or tokens in flight: 429 with Retry-After
    key       its requests per minute or tokens per day are used up: 429 with Retry-After

The context is checked by `answer_limit` when the request is prepared, the rest by `Admission.admit`. A request counts
against the limits until its connection ends, also after an error.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.store import Key, Store


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of one server."""

    max_body_bytes: int = 4 * 2**20  # Largest request body, in bytes.
    body_timeout: float = 20.0  # Seconds that a client has to send the body of its request.
    max_requests: int = 256  # Requests in flight at once, running and waiting.
    max_queued_tokens: int = 1_000_000  # Prompt and answer tokens of all requests in flight.
    drain_seconds: float = 30.0  # Seconds after SIGTERM in which running requests may finish.


class Admission:
    """Counts the requests and tokens in flight and refuses requests above the limits."""

    def __init__(self, limits: Limits, store: Store | None = None):
        self.limits = limits
        self.draining = False
        self.requests = 0
        self.tokens = 0
        self._store = store
        self._lock = threading.Lock()
        self._recent: dict[str, deque[float]] = {}  # times of the requests of the last minute, by key
        self._reserved: Counter[str] = Counter()  # tokens in flight of each key

    @contextmanager
    def admit(self, key: Key | None, num_tokens: int) -> Iterator[None]:
        """Reserve `num_tokens` (all prompts and the longest answers) for one request. Raises `RequestError`."""
        with self._lock:
            self._check(key, num_tokens)
            self._add(key, 1, num_tokens)
        try:
            yield
        finally:
            with self._lock:
                self._add(key, -1, -num_tokens)

    def _add(self, key: Key | None, requests: int, tokens: int) -> None:
        self.requests += requests
        self.tokens += tokens
        if key is not None:
            self._reserved[key.name] += tokens
            if not self._reserved[key.name]:
                del self._reserved[key.name]

    def _check(self, key: Key | None, num_tokens: int) -> None:
        if self.draining:
            raise RequestError(
                tr("the server is shutting down; send the request again later"), status=503, code="draining"
            )
        # A single request above the token limit is admitted when nothing else runs; else it could never run.
        if self.requests >= self.limits.max_requests or (
            self.requests and self.tokens + num_tokens > self.limits.max_queued_tokens
        ):
            message = "the queue is full ({requests} request{requests:plural} in flight); try again later"
            raise RequestError(tr(message, requests=self.requests), status=429, code="queue_full", retry_after=2)
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
            message = tr(
                "rate limit of key {name}: {limit} request{limit:plural} per minute",
                name=key.name,
                limit=key.requests_per_minute,
            )
            raise RequestError(message, status=429, code="rate_limit_exceeded", retry_after=wait)
        times.append(now)

    def _check_quota(self, key: Key) -> None:
        if key.tokens_per_day is None or self._store is None:
            return
        if self._store.tokens_today(key.name) + self._reserved[key.name] >= key.tokens_per_day:
            message = tr(
                "key {name} has used its quota of {limit} tokens per day", name=key.name, limit=key.tokens_per_day
            )
            raise RequestError(message, status=429, code="insufficient_quota", retry_after=3600)


def answer_limit(
    num_prompt_tokens: int, max_tokens: int | None, context: int, remedy: Callable[[str, int], str] | None = None
) -> int:
    """The largest number of tokens of an answer: `max_tokens`, or the rest of the context if it is None.

    Raises a 400 when prompt and answer do not fit the context. `remedy` adds to its message what would read so many
    tokens.
    """
    room = context - num_prompt_tokens
    requested = 1 if max_tokens is None else max_tokens
    if requested > room:
        message = tr(
            "this model's context length is {context} tokens; the prompt has {prompt} tokens and the answer may have"
            " {answer}. Shorten the messages or lower max_tokens",
            context=context, prompt=num_prompt_tokens, answer=requested,
        )  # fmt: skip
        if remedy is not None:
            message = remedy(message, num_prompt_tokens + requested)
        raise RequestError(message, status=400, param="messages", code="context_length_exceeded")
    return room if max_tokens is None else max_tokens
