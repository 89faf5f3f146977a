"""The engine on its own thread, called from asyncio.

Only this thread uses the engine. Between two steps it runs the tasks in an inbox (new requests, cancellations, other
calls); after each step it passes all outputs to the event loop in one call. Leaving `generate` early, for any reason,
aborts the request, so its blocks are free after at most one step.

After an error in the engine no request is accepted any more: all waiting requests get an error, the place is logged,
and `failure` is set, so that `/health` returns 503.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any, TypeVar

from qianwen.engine.llm_engine import LLMEngine, Output
from qianwen.engine.request import Request
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.fault import log_fault

Result = TypeVar("Result")


class _Mailbox:
    """The queue for the outputs of one request, on the event loop of its caller."""

    def __init__(self, num_answers: int) -> None:
        self.num_open = num_answers  # unfinished answers; only the engine's thread changes it
        self.loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Output | Exception] = asyncio.Queue()


class Bridge:
    """`generate` streams the outputs of one request; `call` runs any function between two steps."""

    def __init__(self, engine: LLMEngine) -> None:
        self.engine = engine
        self.failure: BaseException | None = None
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._mailboxes: dict[str, _Mailbox] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread after the current step; requests that still wait get an error."""
        self._inbox.put(None)
        self._thread.join()

    def abort_all(self, reason: QianwenError) -> None:
        """Abort all running and waiting requests; their callers get `reason`."""

        def stop() -> None:
            for request_id in self._mailboxes:
                self.engine.abort(request_id)
            self._fail_all(reason)

        self._inbox.put(stop)

    async def generate(self, request: Request) -> AsyncIterator[Output]:
        """The pieces of all answers to a request, until each has its finish reason."""
        num_open = request.params.n
        mailbox = _Mailbox(num_open)

        def start() -> str:
            if self.failure is not None:
                raise self._stopped_error()
            request_id = self.engine.add_request(request)
            self._mailboxes[request_id] = mailbox
            return request_id

        starting = asyncio.ensure_future(self.call(start))
        try:
            await asyncio.shield(starting)
            while num_open:
                item = await mailbox.items.get()
                if isinstance(item, Exception):
                    raise item
                num_open -= item.finish_reason is not None
                yield item
        finally:
            if num_open:
                starting.add_done_callback(self._abandon)

    async def call(self, task: Callable[[], Result]) -> Result:
        """Run `task` on the engine's thread and return its result."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(setter: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                setter(value)

        def run() -> None:
            try:
                result = task()
            except Exception as error:
                _call_on_loop(loop, settle, future.set_exception, error)
            else:
                _call_on_loop(loop, settle, future.set_result, result)

        self._inbox.put(run)
        if self.failure is not None:  # the thread may have emptied its inbox for the last time before `put`
            settle(future.set_exception, self._stopped_error())
        return await future

    def _abandon(self, starting: asyncio.Future[str]) -> None:
        if starting.cancelled() or starting.exception() is not None:
            return
        request_id = starting.result()

        def stop() -> None:
            self._mailboxes.pop(request_id, None)
            self.engine.abort(request_id)

        self._inbox.put(stop)

    def _run(self) -> None:
        try:
            while self._run_tasks():
                self._deliver(self.engine.step())
        except BaseException as error:  # of any kind, else callers would wait for a thread that has ended
            log_fault(error)
            self.failure = error
        self.failure = self.failure or RuntimeError("closed")
        self._fail_all(self._stopped_error())
        while not self._inbox.empty():
            if (task := self._inbox.get_nowait()) is not None:
                task()

    def _run_tasks(self) -> bool:
        """Run the tasks in the inbox; block while the engine has no work. False after `close`."""
        while True:
            try:
                task = self._inbox.get(block=not self.engine.has_work)
            except queue.Empty:
                return True
            if task is None:
                return False
            task()

    def _deliver(self, outputs: list[Output]) -> None:
        by_loop: dict[asyncio.AbstractEventLoop, list[tuple[_Mailbox, Output]]] = {}
        for output in outputs:
            mailbox = self._mailboxes.get(output.request_id)
            if mailbox is None:
                continue
            by_loop.setdefault(mailbox.loop, []).append((mailbox, output))
            mailbox.num_open -= output.finish_reason is not None
            if not mailbox.num_open:
                del self._mailboxes[output.request_id]
        for loop, items in by_loop.items():
            _call_on_loop(loop, _put_all, items)

    def _fail_all(self, reason: QianwenError) -> None:
        for mailbox in self._mailboxes.values():
            _call_on_loop(mailbox.loop, mailbox.items.put_nowait, reason)
        self._mailboxes.clear()

    def _stopped_error(self) -> QianwenError:
        return RequestError(tr("the engine has stopped; restart the server"), status=503, code="engine_stopped")


def _call_on_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Call a function on the event loop of another thread. A closed loop is ignored: it has no callers any more."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _put_all(items: list[tuple[_Mailbox, Output]]) -> None:
    for mailbox, output in items:
        mailbox.items.put_nowait(output)
