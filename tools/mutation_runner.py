"""Run the tests of a chapter against faults, on copies of the checkout that are thrown away afterwards.

Every job has a copy of its own and tests one fault at a time, on one thread. A test that runs out of time, a process
that crashes and one that takes too much memory count as caught.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from xml.etree import ElementTree

from mutation_operators import Fault

NOT_COPIED = (".*", "runs", "dist", "build", "*.egg-info", "__pycache__")
PASSED = (0, 5)  # pytest's exit status when all passed, and when no test of the files is selected
MEMORY = 12 << 30  # bytes of private memory that one process of the tests may take
SLACK, FACTOR = 60.0, 4.0  # time limit of a run: so many seconds, and so many times the time without a fault
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


class TestsFail(Exception):
    """The tests fail without any fault."""


@dataclass(frozen=True)
class Outcome:
    """Of one run of the tests."""

    caught: bool
    by: str  # the first test that failed, or what ended the run
    seconds: float


class Runner:
    """Copies of a checkout, each used by one job at a time."""

    def __init__(self, root: Path, folder: Path, jobs: int) -> None:
        self.processes: set[subprocess.Popen[str]] = set()
        self.copies: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            copy = folder / str(job)
            shutil.copytree(root, copy / "checkout", ignore=shutil.ignore_patterns(*NOT_COPIED))
            self.copies.put(copy)

    def baseline(self, tests: list[str]) -> dict[str, float]:
        """Seconds of every test file without a fault."""
        with self._copy() as copy:
            report = copy / "baseline.xml"
            done = self._pytest(copy, tests, None, f"--junitxml={report}")
            if done.caught:
                raise TestsFail(f"the tests fail without any fault: {done.by}")
            seconds = dict.fromkeys(tests, 0.0)
            names = {file.removesuffix(".py").replace("/", ".") + ".": file for file in tests}
            for case in ElementTree.parse(report).iter("testcase"):
                [file] = [names[name] for name in names if f"{case.attrib['classname']}.".startswith(name)]
                seconds[file] += float(case.attrib["time"])
            return seconds

    def test(self, fault: Fault, tests: list[str], seconds: dict[str, float]) -> Outcome:
        """Whether the tests catch a fault: the first file alone, then all others."""
        start = time.monotonic()
        with self._copy() as copy, _faulty(copy / "checkout", fault):
            outcome = Outcome(False, "", 0.0)
            for files in (tests[:1], tests[1:]):
                if files and not outcome.caught:
                    limit = SLACK + FACTOR * sum(seconds[file] for file in files)
                    outcome = self._pytest(copy, files, limit)
        return Outcome(outcome.caught, outcome.by, time.monotonic() - start)

    def stop(self) -> None:
        """End the tests that are running."""
        for process in list(self.processes):
            _kill(process)

    @contextmanager
    def _copy(self) -> Iterator[Path]:
        copy = self.copies.get()
        (copy / "tmp").mkdir()
        try:
            yield copy
        finally:
            shutil.rmtree(copy / "tmp", ignore_errors=True)
            shutil.rmtree(copy / "checkout" / ".hypothesis", ignore_errors=True)  # no fault profits from the last one
            self.copies.put(copy)

    def _pytest(self, copy: Path, files: list[str], limit: float | None, *options: str) -> Outcome:
        command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider"]
        command += ["--hypothesis-seed=0", *options, *files]
        environment = ENVIRONMENT | {"PYTHONPATH": str(copy / "checkout"), "TMPDIR": str(copy / "tmp")}
        start = time.monotonic()
        with subprocess.Popen(
            command,
            cwd=copy / "checkout",
            env=os.environ | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        ) as process:
            if hasattr(resource, "prlimit"):  # Linux
                resource.prlimit(process.pid, resource.RLIMIT_DATA, (MEMORY, MEMORY))
            self.processes.add(process)
            try:
                output, by = process.communicate(timeout=limit)[0], ""
            except subprocess.TimeoutExpired:
                output, by = "", f"time limit of {limit:.0f} s"
            finally:
                _kill(process)
                self.processes.discard(process)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+)", output, re.M)
        by = by or (failed[1] if failed else f"exit status {process.returncode}")
        return Outcome(process.returncode not in PASSED, by, time.monotonic() - start)


@contextmanager
def _faulty(checkout: Path, fault: Fault) -> Iterator[None]:
    """A checkout with a fault in it."""
    path = checkout / fault.path
    source = path.read_bytes()
    _write_source(path, fault.apply(source))
    try:
        yield
    finally:
        _write_source(path, source)


def _write_source(path: Path, source: bytes) -> None:
    """Write a source file and remove its compiled form, which Python checks by size and whole seconds only."""
    path.write_bytes(source)
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def _kill(process: subprocess.Popen[str]) -> None:
    """End a process and what it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextmanager
def runner(root: Path, jobs: int) -> Iterator[Runner]:
    """Copies in a folder for temporary files, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="mutation-", ignore_cleanup_errors=True) as folder:
        made = Runner(root, Path(folder), jobs)
        try:
            yield made
        finally:
            made.stop()
