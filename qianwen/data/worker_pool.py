"""A process pool on the cores of this machine, or on a Ray cluster.

    use      choose this machine's cores, or the Ray cluster at an address
    each     apply a function to every task in worker processes (our own on this machine, Daft's on Ray);
             yields results in the order in which they finish

Documents are read and filtered with `each`: a task is a frozen dataclass that names a part of the input, and its result
is a folder on disk. So no document is sent between processes, and a finished task is never repeated.
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
    """The reply of a worker: the result of a task, or an error message."""

    result: Any = None
    error: str = ""


def use(ray: str = "") -> None:
    """Run later calls of `each` on the Ray cluster at the address `ray`, or on this machine. Call it once, first."""
    _running["on Ray"] = bool(ray)
    if ray:  # only for Ray: importing Daft takes half a second
        import daft

        daft.set_runner_ray(address=None if ray == "local" else ray)


def each(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int | None = None) -> Iterator[Any]:
    """The results of `work(task)`, in the order in which they finish. Tasks and results must be picklable.

    `work` must be a module-level function, since it is pickled too. With one worker or one task, no process is started
    and the work is done here. An error of a worker is raised as a DataError with its message.
    """
    workers = workers or os.cpu_count() or 1
    if not _running["on Ray"] and min(workers, len(tasks)) <= 1:
        yield from map(work, tasks)
        return
    calls = [pickle.dumps((work, task)) for task in tasks]
    answers = _on_ray(calls, workers) if _running["on Ray"] else _on_cores(calls, min(workers, len(tasks)))
    with closing(answers):  # after an error too: the remaining tasks must not continue
        for answer in map(pickle.loads, answers):
            if answer.error:
                raise DataError(answer.error)
            yield answer.result


def _on_cores(calls: list[bytes], workers: int) -> Generator[bytes, None, None]:
    _dismiss(lambda worker: worker.origin != _origin())
    # Workers stay in `_idle` between calls: starting one imports this package, which takes seconds.
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
        # Kill busy workers, whose results are not needed. This is safe: a task writes its folder atomically. Killing
        # them also ends the threads that wait for their replies, so the shutdown below does not block.
        unfinished = [] if is_done else team
        for worker in unfinished:
            worker.process.kill()
        threads.shutdown(cancel_futures=True)
        for worker in unfinished:
            worker.process.communicate()


class _Worker:
    """A process that handles calls until this process ends. It does not import our main module."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.origin, pipe = _origin(), subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)

    def ask(self, call: bytes) -> bytes:
        """Send a call and return its reply. Raises DataError if the process has died."""
        assert self.process.stdin and self.process.stdout
        try:
            _send(self.process.stdin, call)
            answer = _receive(self.process.stdout)
        except OSError:  # broken pipe: the worker has died
            answer = b""
        if not answer:
            message = tr(
                "a worker process died, perhaps out of memory; run the same command to continue, or lower --workers"
            )
            raise DataError(message)
        return answer


def _send(stream: IO[bytes], message: bytes) -> None:
    """Write the length of a message, then the message."""
    stream.write(len(message).to_bytes(8, "little") + message)
    stream.flush()


def _receive(stream: IO[bytes]) -> bytes:
    """The next message; empty when the stream ends before or inside it."""
    size = int.from_bytes(stream.read(8), "little")
    message = stream.read(size)
    return message if len(message) == size else b""


_idle: list[_Worker] = []


def _origin() -> tuple[str, dict[str, str]]:
    """What a worker inherits when it starts: current folder and environment. If they change, it is replaced."""
    return os.getcwd(), dict(os.environ)


def _dismiss(should_stop: Callable[[_Worker], bool] = lambda _: True) -> None:
    """Stop idle workers: closing their input ends their loop."""
    for worker in list(filter(should_stop, _idle)):
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
    """The main loop of a worker."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # text that a library prints must not mix with the replies: send it to stderr
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
    """End this worker when its parent dies. Otherwise it could still write while the resumed run writes too."""
    if _watching.acquire(blocking=False):  # once per process
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(1)
