"""The only file that knows Daft: work spread over cores or a Ray cluster, joins and groups, files wherever they are.

    use         this machine's cores, or the Ray cluster at an address; the rest stays the same
    each        a function applied to every task, in worker processes (our own here, Daft's on Ray);
                results come as they are ready
    Frame       a table that is not in memory yet: `frame`, `scan`, `join`, `least`, `distinct`, `rows`
    listing     the files at a path, `s3://` and `hf://` included;  `local_copy` of one of them

`each` is how documents are read and filtered: a task is a part of the input and its result a folder on the disk, so
no document travels between processes, and a task that was done is never done again. Daft's own readers stop at the
first bad line of a file; ours set it aside, so documents are read inside the tasks.
"""

import atexit
import importlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from qianwen.runtime.errors import DataError, QianwenError
from qianwen.runtime.translation import tr

os.environ.setdefault("DO_NOT_TRACK", "1")  # before Daft is imported: it would report its use
Frame = Any  # daft.DataFrame
_running = {"on Ray": False}
REMOTE = ("s3://", "hf://", "gs://", "az://", "http://", "https://")


class Found(NamedTuple):
    """A file that was listed. `name` is its path below what was asked for."""

    path: str
    name: str
    size: int


def use(ray: str = "") -> None:
    """Run what follows on the Ray cluster at the address `ray`, or on this machine. Once per process, before `each`."""
    _running["on Ray"] = bool(ray)
    if ray:  # Daft runs on this machine by itself, and takes half a second to import
        import daft

        daft.set_runner_ray(address=None if ray == "local" else ray)


def each(work: Callable[[Any], Any], tasks: Sequence[Any], workers: int | None = None) -> Iterator[Any]:
    """The results of `work(task)`, as they are ready. Tasks and results are whatever JSON can say.

    `work` is a function of a module, since it is sent to other processes. One worker (or one task) needs none: it runs
    here. An error of a kind the user can cause is raised as a DataError with its message.
    """
    workers = workers or os.cpu_count() or 1
    given = [json.dumps(task) for task in tasks]
    if _running["on Ray"]:
        answers = _on_ray(work, given, workers)
    elif min(workers, len(tasks)) <= 1:
        yield from map(work, tasks)
        return
    else:
        answers = _on_cores(work, given, min(workers, len(tasks)))
    with closing(answers):  # at an error too: the rest of the tasks must not run on
        for answer in map(json.loads, answers):
            if "error" in answer:
                raise DataError(answer["error"])
            yield answer["result"]


def _on_cores(work: Callable[[Any], Any], tasks: list[str], workers: int) -> Generator[str, None, None]:
    _dismiss(lambda worker: worker.place != _place())
    team = [_idle.pop() if _idle else _Worker() for _ in range(workers)]
    free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
    for worker in team:
        free.put(worker)

    def ask(task: str) -> str:
        worker = free.get()
        try:
            return worker.ask(work, task)
        finally:
            free.put(worker)

    threads, is_done = ThreadPoolExecutor(workers), False
    try:
        for future in as_completed([threads.submit(ask, task) for task in tasks]):
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
    """A process that answers lines of JSON until we are gone. It needs nothing of our own main module."""

    def __init__(self) -> None:
        command = [sys.executable, "-c", f"from {__name__} import _serve; _serve()"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        self.place, pipe = _place(), subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, start_new_session=True)

    def ask(self, work: Callable[[Any], Any], task: str) -> str:
        """The answer to a task. Raises DataError if the process ends instead."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(json.dumps([work.__module__, work.__qualname__, task]).encode() + b"\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except OSError:  # of a pipe that nobody reads any more
            answer = b""
        if not answer:
            message = tr("a worker died, perhaps for want of memory: run it again, it goes on; or use fewer --workers")
            raise DataError(message)
        return answer.decode()


_idle: list[_Worker] = []


def _place() -> tuple[str, dict[str, str]]:
    """What a process has from the one that began it: folder and environment."""
    return os.getcwd(), dict(os.environ)


def _dismiss(whom: Callable[[_Worker], bool] = lambda _: True) -> None:
    """Let idle workers go; they end when there is nothing more to read."""
    for worker in list(filter(whom, _idle)):
        _idle.remove(worker)
        worker.process.communicate()


atexit.register(_dismiss)


def _serve() -> None:
    """What a worker does."""
    _die_with_parent()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    for line in sys.stdin.buffer:
        module, name, task = json.loads(line)
        answers.write(_answered(getattr(importlib.import_module(module), name), task).encode() + b"\n")
        answers.flush()


def _on_ray(work: Callable[[Any], Any], tasks: list[str], workers: int) -> Generator[str, None, None]:
    import daft

    @daft.cls(use_process=True, max_concurrency=workers)
    class Worker:
        @daft.method.batch(return_dtype=daft.DataType.string(), batch_size=1)
        def run(self, given: daft.Series) -> list[str]:
            _die_with_parent()
            return [_answered(work, task) for task in given.to_pylist()]

    worker: Any = Worker()
    frame = daft.from_pydict({"task": tasks}).repartition(len(tasks))
    for row in frame.select(worker.run(daft.col("task")).alias("answer")).iter_rows():
        yield row["answer"]


def frame(table: pa.Table) -> Frame:
    """A table in memory as a Frame."""
    import daft

    return daft.from_arrow(table)


def scan(paths: Sequence[str | Path], columns: Sequence[str]) -> Frame:
    """Some columns of Parquet files."""
    import daft

    return daft.read_parquet([str(path) for path in paths]).select(*columns)


def join(left: Frame, right: Frame, on: str) -> Frame:
    """Every pair of rows with the same value in the column `on`."""
    return left.join(right, on=on)


def least(frame: Frame, by: str, of: str) -> Frame:
    """`by` and the smallest `of` for each of its values."""
    import daft

    return frame.groupby(by).agg(daft.col(of).min().alias(of))


def renamed(frame: Frame, **names: str) -> Frame:
    """The columns named, under new names: `renamed(edges, low="high", high="low")` is the edges turned round."""
    import daft

    return frame.select(*[daft.col(old).alias(new) for new, old in names.items()])


def where(frame: Frame, column: str, relation: str, other: str) -> Frame:
    """The rows in which `column` is "<", ">" or "!=" the column `other`."""
    import daft

    left, right = daft.col(column), daft.col(other)
    return frame.where({"<": left < right, ">": left > right, "!=": left != right}[relation])


def distinct(*frames: Frame) -> Frame:
    """The rows of all frames, each once."""
    together = frames[0]
    for another in frames[1:]:
        together = together.concat(another)
    return together.distinct()


def rows(frame: Frame) -> pa.Table:
    """A Frame computed, in memory."""
    return frame.to_arrow()


def totals(frame: Frame, column: str) -> tuple[int, int]:
    """How many rows there are, and the sum of a column: enough to see that nothing changes any more."""
    import daft

    one = frame.agg(daft.col(column).count().alias("rows"), daft.col(column).sum().alias("sum")).to_pydict()
    return one["rows"][0], one["sum"][0] or 0


def kept(frame: Frame) -> Frame:
    """A Frame computed now, so that what is built on it does not compute it again."""
    return frame.collect()


# ---- files wherever they are ------------------------------------------------------------------------------------


def is_remote(path: str) -> bool:
    """Whether a path lies beyond this machine's file system."""
    return path.startswith(REMOTE)


def listing(path: str) -> list[Found]:
    """The files at `path` (a file or a folder) by name; hidden ones are passed over. Raises DataError if none is."""
    if is_remote(path):
        found = _remote_listing(path)
    else:
        root = Path(path)
        files = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
        if not root.exists():
            raise DataError(tr("{path}: no such file or folder", path=root))
        names = [file.relative_to(root).as_posix() if root.is_dir() else file.name for file in files]
        found = [Found(str(file), name, file.stat().st_size) for file, name in zip(files, names, strict=True)]
    return [one for one in found if not any(part.startswith(".") for part in one.name.split("/"))]


@contextmanager
def local_copy(path: str, folder: Path) -> Iterator[Path]:
    """A remote file as a file here, in `folder`, for as long as the block lasts; a local one is itself."""
    if not is_remote(path):
        yield Path(path)
        return
    import daft

    folder.mkdir(parents=True, exist_ok=True)
    here = folder / f"{os.getpid()}-{path.rpartition('/')[2]}"
    try:
        with daft.open_file(path, "rb", io_config=_io_config()) as source, here.open("wb") as target:
            shutil.copyfileobj(source, target, 1 << 20)
        yield here
    except Exception as error:
        if isinstance(error, (QianwenError, MemoryError)) or not type(error).__module__.startswith("daft"):
            raise
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error
    finally:
        here.unlink(missing_ok=True)


def _remote_listing(path: str) -> list[Found]:
    import daft

    is_file = "." in path.rstrip("/").rpartition("/")[2]
    pattern = path if is_file or "*" in path else path.rstrip("/") + "/**"
    try:
        table = daft.from_glob_path(pattern, io_config=_io_config()).to_pydict()
    except Exception as error:  # Daft raises many kinds, all of them about this path
        raise DataError(tr("{path} could not be listed: {error}", path=path, error=error)) from error
    base = path.partition("*")[0].rstrip("/")
    found = []
    for file, size in sorted(zip(table["path"], table["size"], strict=True)):
        name = file.removeprefix(base).strip("/") or file.rpartition("/")[2]
        found.append(Found(file, name, size or 0))
    if not found:
        raise DataError(tr("{path}: no such file or folder", path=path))
    return found


def _io_config() -> Any:
    """Credentials come from the environment; an endpoint of one's own from AWS_ENDPOINT_URL."""
    from daft.io import IOConfig, S3Config

    environment = os.environ
    s3 = S3Config(
        endpoint_url=environment.get("AWS_ENDPOINT_URL"),
        region_name=environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "us-east-1",
        anonymous=not {"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_ROLE_ARN"} & environment.keys() or None,
        num_tries=4,
        connect_timeout_ms=5000,
    )
    return IOConfig(s3=s3)


# ---- inside a worker --------------------------------------------------------------------------------------------


def _answered(work: Callable[[Any], Any], task: str) -> str:
    """The result or the error as JSON: exceptions do not survive the way back."""
    try:
        return json.dumps({"result": work(json.loads(task))})
    except (QianwenError, OSError) as error:
        return json.dumps({"error": str(error)})
    except Exception as error:
        import traceback

        return json.dumps({"error": f"{type(error).__name__}: {error}\n{traceback.format_exc()}"})


_watching = threading.Lock()


def _die_with_parent() -> None:
    """A killed run must not leave workers that go on writing beside the run that resumes it."""
    if _watching.acquire(blocking=False):  # once per process
        threading.Thread(target=_watch, args=(os.getppid(),), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.05)
    os._exit(1)
