"""One engine for many threads, without a thread of its own.

A thread that waits for an output takes the turn to run steps, unless another thread has it. Each step puts the outputs
of all requests into their mailboxes and wakes the threads that wait for them. The thread that has the turn passes it on
when its own output has arrived. New and cancelled requests are put into lists that the next step reads, so no thread
waits for a running step in order to add a request, and none is served before another by chance.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from contextlib import suppress

from qianwen.engine.llm_engine import LLMEngine, Output
from qianwen.engine.request import Request
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.runtime.translation import tr


class Mailbox:
    """The outputs of one request that its reader has not taken yet, and the error that ended it, if one did."""

    def __init__(self) -> None:
        self.outputs: deque[Output] = deque()
        self.error: QianwenError | None = None
        self.is_waiting = False
        self._news = threading.Lock()  # a signal: free while there is news
        self._news.acquire()

    @property
    def has_something(self) -> bool:
        return bool(self.outputs or self.error)

    def wait(self) -> None:
        self._news.acquire()

    def wake(self) -> None:
        """Signal the reader. A lock and not an event, because `__del__` may call this inside any call, also this."""
        with suppress(RuntimeError):  # it is signalled already
            self._news.release()


class SharedEngine:
    """Any number of threads may call all methods."""

    def __init__(self, engine: LLMEngine) -> None:
        self.engine = engine
        self._turn = threading.Lock()  # the thread that has it may use the engine
        self._mailboxes: dict[str, Mailbox] = {}
        self._added: deque[tuple[str, Request]] = deque()
        self._cancelled: deque[str] = deque()
        self._names = itertools.count()

    @property
    def num_open(self) -> int:
        """Number of requests that are not closed."""
        return len(self._mailboxes)

    def add(self, request: Request) -> str:
        """Queue a request and return its id. RequestError if the request is not valid."""
        self.engine.check_request(request)
        request_id = f"request-{next(self._names)}"
        self._mailboxes[request_id] = Mailbox()
        self._added.append((request_id, request))
        return request_id

    def next(self, request_id: str) -> Output:
        """The next output of a request; this thread runs steps if no other does. RequestError if it is cancelled."""
        box = self._mailboxes.get(request_id)
        if box is None:
            raise _cancelled()
        box.is_waiting = True  # before the check: an output that arrives after it wakes this thread
        try:
            while not box.has_something:
                if self._turn.acquire(blocking=False):
                    try:
                        self._run_until(box)
                    finally:
                        self._turn.release()
                else:
                    box.wait()
        finally:
            box.is_waiting = False
            self._pass_on()
        if box.error:
            raise box.error
        return box.outputs.popleft()

    def close(self, request_id: str) -> None:
        """Cancel a request now, or, while a step runs, before the next one.

        It never waits for the turn: Python may delete a stream at any moment, also in the thread that has it.
        """
        self._cancelled.append(request_id)
        if self._turn.acquire(blocking=False):
            try:
                self._update()
            finally:
                self._turn.release()
                self._pass_on()

    def close_all(self) -> None:
        """Cancel all requests. Threads that wait for one get a RequestError."""
        for request_id in list(self._mailboxes):
            self.close(request_id)

    def reset(self) -> None:
        """Empty the cache of the engine."""
        with self._turn:
            self.engine.reset()
        self._pass_on()

    def _run_until(self, box: Mailbox) -> None:
        while not box.has_something:
            self._update()
            for output in self.engine.step():
                if receiver := self._mailboxes.get(output.request_id):
                    receiver.outputs.append(output)
                    if receiver.is_waiting:
                        receiver.wake()

    def _update(self) -> None:
        """Give the engine what was added and cancelled since the last step."""
        while self._added:
            request_id, request = self._added.popleft()
            try:
                self.engine.add_request(request, request_id)
            except QianwenError as error:
                self._end(request_id, error)
        while self._cancelled:
            request_id = self._cancelled.popleft()
            self.engine.abort(request_id)
            self._end(request_id, _cancelled())

    def _end(self, request_id: str, error: QianwenError) -> None:
        if box := self._mailboxes.pop(request_id, None):
            box.error = error
            box.wake()

    def _pass_on(self) -> None:
        """Wake a thread that waits, if nobody has the turn."""
        if self._turn.locked():
            return  # who has it passes it on
        for box in list(self._mailboxes.values()):
            if box.is_waiting and not box.has_something:
                box.wake()
                return


def _cancelled() -> RequestError:
    return RequestError(tr("the request was cancelled"), status=499, code="cancelled")
