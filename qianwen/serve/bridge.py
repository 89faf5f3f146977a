"""The engine on a thread of its own, spoken to from asyncio.

The thread alone touches the engine: between two steps it takes new requests, cancellations and other errands from an
inbox, and after each step it hands all outputs to the event loop in one call. Leaving `generate` early, for whatever
reason, aborts the request, so its blocks are free within a step.

An engine that fails is not asked again: everyone waiting is told, the log has the place, and `failure` turns `/health`
red.
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
    """Where one request's outputs arrive, on the event loop of whoever asked."""

    def __init__(self, num_answers: int) -> None:
        self.num_open = num_answers  # counted by the engine's thread
        self.loop = asyncio.get_running_loop()
        self.items: asyncio.Queue[Output | Exception] = asyncio.Queue()


class Bridge:
    """`generate` streams one request; `call` runs anything else between two steps."""

    def __init__(self, engine: LLMEngine) -> None:
        self.engine = engine
        self.failure: BaseException | None = None
        self._inbox: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._mailboxes: dict[str, _Mailbox] = {}
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread after the step under way; whoever still waits is told."""
        self._inbox.put(None)
        self._thread.join()

    def cut_off(self, reason: QianwenError) -> None:
        """Abort all that runs and waits; whoever asked for it gets `reason`."""

        def stop() -> None:
            for request_id in self._mailboxes:
                self.engine.abort(request_id)
            self._tell_everyone(reason)

        self._inbox.put(stop)

    async def generate(self, request: Request) -> AsyncIterator[Output]:
        """The pieces of all answers to a request, until each has its finish reason."""
        num_open = request.params.n
        mailbox = _Mailbox(num_open)

        def start() -> str:
            if self.failure is not None:
                raise self._broken()
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

    async def call(self, errand: Callable[[], Result]) -> Result:
        """Run `errand` on the engine's thread and return what it returns."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Result] = loop.create_future()

        def settle(set_it: Callable[[Any], None], value: Any) -> None:
            if not future.done():
                set_it(value)

        def run() -> None:
            try:
                result = errand()
            except Exception as error:
                _tell(loop, settle, future.set_exception, error)
            else:
                _tell(loop, settle, future.set_result, result)

        self._inbox.put(run)
        if self.failure is not None:  # put after the thread emptied its inbox for the last time
            settle(future.set_exception, self._broken())
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
            while self._take_errands():
                self._deliver(self.engine.step())
        except BaseException as error:  # of whatever kind: nobody may wait for a thread that is gone
            log_fault(error)
            self.failure = error
        self.failure = self.failure or RuntimeError("closed")
        self._tell_everyone(self._broken())
        while not self._inbox.empty():
            if (errand := self._inbox.get_nowait()) is not None:
                errand()

    def _take_errands(self) -> bool:
        """Empty the inbox, waiting for an errand while there is nothing to compute; False when asked to stop."""
        while True:
            try:
                errand = self._inbox.get(block=not self.engine.has_work)
            except queue.Empty:
                return True
            if errand is None:
                return False
            errand()

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
            _tell(loop, _put_all, items)

    def _tell_everyone(self, reason: QianwenError) -> None:
        for mailbox in self._mailboxes.values():
            _tell(mailbox.loop, mailbox.items.put_nowait, reason)
        self._mailboxes.clear()

    def _broken(self) -> QianwenError:
        return RequestError(tr("the engine has stopped; restart the server"), status=503, code="engine_stopped")


def _tell(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    """Have a loop of another thread call something; where it has ended nobody waits for it any more."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        if not loop.is_closed():
            raise


def _put_all(items: list[tuple[_Mailbox, Output]]) -> None:
    for mailbox, output in items:
        mailbox.items.put_nowait(output)
