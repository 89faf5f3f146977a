"""Work spread over cores or a Ray cluster.

    use      this machine's cores, or the Ray cluster at an address; the rest stays the same
    each     a function applied to every task, in worker processes (our own here, Daft's on Ray);
             results come as they are ready

`each` is how documents are read and filtered: a task is a frozen dataclass that names a part of the input, its result a
folder on the disk, so no document travels between processes, and a task that was done is never done again.
"""

import atexit
import os
import pickle
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import IO, Any

from qianwen.runtime.errors import DataError, QianwenError
from qianwen.runtime.translation import tr

_running = {"on Ray": False}


@dataclass(frozen=True)
class Answer:
    """What a worker sends back: the result of a task, or why there is none."""

    result: Any = None
    error: str = ""


def use(ray: str = "") -> None:
    """Run what follows on the Ray cluster at the address `ray`, or on this machine. Once per process, before `each`."""
    _running["on Ray"] = bool(ray)
    if ray:  # Daft runs on this machine by itself, and takes half a second to import
        import daft

        daft.set_runner_ray(address=None if ray == "local" else ray)


def each(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int | None = None) -> Iterator[Any]:
    """The results of `work(task)`, as they are ready. Tasks and results can be pickled.

    `work` is a function of a module, since it is sent to other processes. One worker (or one task) needs none: it runs
    here. An error of a kind the user can cause is raised as a DataError with its message.
    """
    workers = workers or os.cpu_count() or 1
    if not _running["on Ray"] and min(workers, len(tasks)) <= 1:
        yield from map(work, tasks)
        return
    calls = [pickle.dumps((work, task)) for task in tasks]
    answers = _on_ray(calls, workers) if _running["on Ray"] else _on_cores(calls, min(workers, len(tasks)))
    with closing(answers):  # at an error too: the rest of the tasks must not run on
        for answer in map(pickle.loads, answers):
            if answer.error:
                raise DataError(answer.error)
            yield answer.result


def _on_cores(calls: list[bytes], workers: int) -> Generator[bytes, None, None]:
    _dismiss(lambda worker: worker.place != _place())
    team = [_idle.pop() if _idle else _Worker() for _ in range(workers)]
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in team:
        free.put(worker)

    def ask(call: bytes) -> bytes:
        worker = free.get()
        try:
            return worker.ask(call)
        finally:
            free.put(worker)

    threads, is_done = ThreadPoolExecutor(workers), False
    try:
        for future in as_completed([threads.submit(ask, call) for call in calls]):
            yield future.result()
        is_done = True
        _idle.extend(team)
    finally:
        lost = [] if is_done else team
        for worker in lost:  # nobody waits for the rest, and a task that is killed leaves nothing half done
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in lost:
            worker.process.communicate()


class _Worker:
    """A process that answers calls until we are gone. It needs nothing of our own main module."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.place, pipe = _place(), subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)

    def ask(self, call: bytes) -> bytes:
        """The answer to a call. Raises DataError if the process ends instead."""
        assert self.process.stdin and self.process.stdout
        try:
            _send(self.process.stdin, call)
            answer = _receive(self.process.stdout)
        except OSError:  # of a pipe that nobody reads any more
            answer = b""
        if not answer:
            message = tr(
                "a worker process died, perhaps out of memory; run the same command to continue, or lower --workers"
            )
            raise DataError(message)
        return answer


def _send(stream: IO[bytes], message: bytes) -> None:
    """A message with its length before it."""
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The next message; empty when the stream ends before or inside it."""
    size = int.from_bytes(stream.read(8), "little")
    message = stream.read(size)
    return message if len(message) == size else b""


_idle: list[_Worker] = []


def _place() -> tuple[str, dict[str, str]]:
    """What a process has from the one that began it: folder and environment."""
    return os.getcwd(), dict(os.environ)


def _dismiss(is_unfit: Callable[[_Worker], bool] = lambda _: True) -> None:
    """Let idle workers go; they end when there is nothing more to read."""
    for worker in list(filter(is_unfit, _idle)):
        _idle.remove(worker)
        worker.process.communicate()


atexit.register(_dismiss)


def _on_ray(calls: list[bytes], workers: int) -> Generator[bytes, None, None]:
    import daft

    @daft.cls(use_process=True, max_concurrency=workers)
    class Worker:
        @daft.method.batch(return_dtype=daft.DataType.binary(), batch_size=1)
        def run(self, column: daft.Series) -> list[bytes]:
            _die_with_parent()
            return [_answer(call) for call in column.to_pylist()]

    worker: Any = Worker()
    frame = daft.from_pydict({"call": calls}).repartition(len(calls))
    for row in frame.select(worker.run(daft.col("call")).alias("answer")).iter_rows():
        yield row["answer"]


# ---- inside a worker --------------------------------------------------------------------------------------------


def _serve() -> None:
    """What a worker does."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    while call := _receive(sys.stdin.buffer):
        _send(answers, _answer(call))


def _answer(call: bytes) -> bytes:
    """The pickled Answer to a pickled (function, task)."""
    try:
        work, task = pickle.loads(call)
        return pickle.dumps(Answer(work(task)))
    except (QianwenError, OSError) as error:
        return pickle.dumps(Answer(error=str(error) or type(error).__name__))
    except Exception as error:
        import traceback

        return pickle.dumps(Answer(error=f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


_watching = threading.Lock()


def _die_with_parent() -> None:
    """A killed run must not leave workers that go on writing beside the run that resumes it."""
    if _watching.acquire(blocking=False):  # once per process
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(1)
