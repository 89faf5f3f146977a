"""Processes that are there to be killed: forked from one that has paid for its imports, so that hundreds cost seconds.

    python -m tests.faults.nursery MODULE

calls `MODULE.prepare()`, which imports what every attempt needs, then forks a process that calls
`MODULE.attempt(*arguments)` for every line on its input. At the line `status` it waits for the youngest and tells how
it ended; until then the dead stay zombies, whose ids are their own.
"""

import importlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


class Nursery:
    """Starts attempts, signals them after some seconds, and keeps what they print."""

    def __init__(self, module: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.nursery", module], cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stdout.readline() == "ready\n"

    def start(self, console: Path, *arguments: object, file_limit: int = 0) -> int:
        """The id of a new process. No file of it may hold more than `file_limit` bytes; 0 is no limit."""
        return self._ask(json.dumps([str(console), file_limit, *arguments], default=str))

    def status(self) -> int:
        """The exit status of the youngest, once it ends; minus the signal that ended it."""
        return self._ask("status")

    def run(
        self, console: Path, *arguments: object, file_limit: int = 0, signal_after: float | None = None, number: int = 9
    ) -> int:
        """The exit status of an attempt, which is sent the signal `number` after some seconds if they are given."""
        child = self.start(console, *arguments, file_limit=file_limit)
        if signal_after is not None:
            time.sleep(signal_after)
            os.kill(child, number)
        return self.status()

    def _ask(self, line: str) -> int:
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())


@contextmanager
def nursery(module: str) -> Iterator[Nursery]:
    """One for the tests of a module, closed after them."""
    nurse = Nursery(module)
    yield nurse
    nurse.process.stdin.close()
    nurse.process.wait(timeout=30)
    nurse.process.stdout.close()


@contextmanager
def attempts(module: str, given: Path) -> Iterator[Callable[..., int]]:
    """`run(to)`: an attempt of the module at making `to` of `given`, whose words are in TO.txt; its exit status."""
    with nursery(module) as nurse:
        yield lambda to, **how: nurse.run(to.with_name(f"{to.name}.txt"), given, to, **how)


def _attempt(attempt: Callable[..., None], console: str, file_limit: int, *arguments: object) -> int:
    """One attempt in this process, as the command line would end it; the exit status."""
    from qianwen.runtime.errors import QianwenError

    Path(console).parent.mkdir(parents=True, exist_ok=True)
    with open(console, "a") as said:
        os.dup2(said.fileno(), 1)
        os.dup2(said.fileno(), 2)
        if file_limit:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, resource.RLIM_INFINITY))
        try:
            attempt(*arguments)
        except KeyboardInterrupt:
            return 130
        except (QianwenError, OSError) as error:
            said.write(f"{error}\n")
            return 1
        return 0


def _serve(module: ModuleType) -> None:
    module.prepare()
    print("ready", flush=True)
    children: list[int] = []
    for line in sys.stdin:
        if line == "status\n":
            print(os.waitstatus_to_exitcode(os.waitpid(children.pop(), 0)[1]), flush=True)
            continue
        if not (child := os.fork()):
            status = 99
            try:
                status = _attempt(module.attempt, *json.loads(line))
            finally:
                os._exit(status)
        children.append(child)
        print(child, flush=True)


if __name__ == "__main__":
    _serve(importlib.import_module(sys.argv[1]))
