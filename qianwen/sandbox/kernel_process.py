"""The process of a kernel and our channels to it: start, send a cell, receive messages, interrupt, end."""

import json
import os
import queue
import select
import sys
import threading
import time
import weakref
from collections.abc import Mapping
from uuid import uuid4

from qianwen.runtime.translation import tr
from qianwen.sandbox import fonts, visible
from qianwen.sandbox.channel import CHUNK, BrokenChannel, Channel, Messages
from qianwen.sandbox.kernel_messages import Message, read_message, run_request
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.running import Backend, Ending, RunningProgram, SandboxFailed

PROGRAM = os.path.join(visible.CHAPTER, "kernel_program.py")
START_SECONDS = 30.0
MAX_RETURNED = 8 << 20  # bytes of a file or figure that comes back
MAX_BETWEEN_CELLS = 16 << 20  # bytes of messages that are about no cell
BYTES_PER_CHARACTER = 8  # at most, in the JSON of a message


class KernelProcess:
    """A kernel that is ready for cells. SandboxFailed, with the reason, if it does not start."""

    def __init__(self, backend: Backend, limits: Limits) -> None:
        self.num_read = 0  # bytes of all messages
        self._key = uuid4().hex
        text_bytes = BYTES_PER_CHARACTER * limits.output_bytes + CHUNK
        self._shell = Channel("DEALER", Messages(text_bytes, 0))
        self._iopub = Channel("SUB", Messages(text_bytes, MAX_RETURNED))
        listeners = [channel.listener.fileno() for channel in (self._shell, self._iopub)]
        settings = {"key": self._key, "output_bytes": limits.output_bytes, "file_bytes": MAX_RETURNED}
        argv = [sys.executable, "-I", "-B", "-X", "frozen_modules=on", PROGRAM, *map(str, listeners)]
        try:
            self._running = _start_in_own_thread(backend, [*argv, json.dumps(settings)], limits, listeners)
        except BaseException:
            self._shell.close()
            self._iopub.close()
            raise
        self._end = weakref.finalize(self, _end, self._running, self._shell, self._iopub)
        self._events = select.poll()
        for channel in (self._shell, self._iopub):
            channel.listener.close()
            self._events.register(channel, select.POLLIN)
        self._wait_until_ready()

    def _wait_until_ready(self) -> None:
        """Wait for the first message, with which the kernel confirms that we get all others."""
        deadline, is_welcome = time.monotonic() + START_SECONDS, False
        try:
            while not (is_welcome and self._shell.is_ready):
                is_welcome = bool(self.receive(left := deadline - time.monotonic())) or is_welcome
                if left <= 0:
                    raise BrokenChannel(tr("no answer in {seconds:.0f} s", seconds=START_SECONDS))
        except BrokenChannel as broken:
            ending = self.end()
            raise SandboxFailed(ending.errors.strip().rpartition("\n")[2] or str(broken)) from None
        except BaseException:
            self._end()
            raise

    def send(self, code: str, files: Mapping[str, bytes], seconds: float) -> str:
        """Ask for a cell to be run with new files, and return the id of the request."""
        request, parts = run_request(code, files, self._key)
        self._shell.send(parts, seconds)
        return request

    def receive(self, seconds: float) -> list[Message]:
        """The messages that arrive next, in at most so many seconds. BrokenChannel if the kernel has ended."""
        ready = {descriptor for descriptor, _ in self._events.poll(max(0.0, seconds) * 1000)}
        found = []
        for channel in (self._shell, self._iopub):
            if channel.fileno() in ready:
                messages = (read_message(parts, self._key) for parts in channel.receive())
                found += [message for message in messages if message]
        self.num_read = self._shell.num_read + self._iopub.num_read
        return found

    def has_ended(self) -> bool:
        """Whether the kernel ended since its last cell, or sends without an end, so that it is of no use.

        What it sent since then is about no cell and is dropped.
        """
        first = self.num_read
        try:
            while self.receive(0):
                if self.num_read - first > MAX_BETWEEN_CELLS:
                    return True
        except BrokenChannel:
            return True
        return False

    def interrupt(self) -> None:
        self._running.interrupt()

    def end(self) -> Ending:
        """End all processes of the kernel."""
        self._end()
        return self._running.end()


def _start_in_own_thread(backend: Backend, argv: list[str], limits: Limits, keep: list[int]) -> RunningProgram:
    """Start the program in a thread that lives as long as it, because the thread that needs a kernel first may not."""
    results: queue.SimpleQueue[RunningProgram | BaseException] = queue.SimpleQueue()

    def own() -> None:
        try:
            running = RunningProgram(backend, argv, fonts.settings(), limits, keep=keep)
        except BaseException as error:
            results.put(error)
            return
        results.put(running)
        running.process.wait()

    threading.Thread(target=own, name="kernel", daemon=True).start()
    result = results.get()
    if isinstance(result, BaseException):
        raise result
    return result


def _end(running: RunningProgram, *channels: Channel) -> None:
    try:
        running.end()
    finally:
        for channel in channels:
            channel.close()
