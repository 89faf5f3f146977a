"""Hostile programs, run in every back-end of this machine, and watched from outside.

A program gets facts about the outside (paths, numbers of processes, ports) as names that `%(name)s` stands for.
Whatever it does, it must end in time, leave no process, and not fill our memory.
"""

import os
import signal
import socket
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import get_args

import psutil
import pytest

from qianwen.runtime.files import cache_dir
from qianwen.sandbox import isolation
from qianwen.sandbox.process import Limits, Outcome, Sandbox
from qianwen.sandbox.running import Backend

SMALL = Limits(cpu_seconds=1, wall_seconds=2, memory_bytes=256 << 20, file_bytes=4 << 20, folder_bytes=8 << 20)
SLACK = 0.5  # seconds that a run may take beyond its limit
MAX_GROWTH = 20 << 20  # bytes of our own memory
SECRET = "the-text-that-nobody-may-read"

ATTEMPTS = """
for name, attempt in %r.items():
    try:
        exec(attempt, {})
    except Exception as error:
        print(f"{name}: {type(error).__name__}", flush=True)
print("all were tried")
"""

HEAD = """
import ctypes, fcntl, mmap, os, resource, socket, struct, subprocess, time
def libc_call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
def check(*command):
    subprocess.run(command, check=True, capture_output=True)
"""

Contain = Callable[..., Outcome]


@pytest.fixture(scope="session", params=get_args(Backend))
def sandbox(request: pytest.FixtureRequest) -> Sandbox:
    if reason := isolation.refusal(request.param):
        pytest.skip(f"{request.param} does not work here: {reason}")
    return Sandbox.open(request.param)


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder of ours that every user may read and write, if the isolation did not forbid it."""
    for folder in (tmp_path, tmp_path.parent, tmp_path.parent.parent):
        if folder.stat().st_uid == os.geteuid():
            folder.chmod(0o777)
    secret = tmp_path / "secret"
    secret.write_text(SECRET)
    secret.chmod(0o666)
    return tmp_path


@pytest.fixture
def contain(sandbox: Sandbox, tmp_path: Path) -> Iterator[Contain]:
    """Run a hostile program with small limits, and check what holds for all of them."""
    mark = f"mark-{os.getpid()}-{tmp_path.name}"
    us = psutil.Process()

    def run(program: str | dict[str, str], limits: Limits = SMALL, **facts: object) -> Outcome:
        """A table of programs is tried in one run, one after the other."""
        before = us.memory_info().rss
        if isinstance(program, dict):
            outcome = run(ATTEMPTS % {name: part % facts if facts else part for name, part in program.items()}, limits)
            assert outcome.stdout.endswith("all were tried\n"), outcome
            return outcome
        source = program % facts if facts else program
        argv = [sys.executable, "-I", "-B", "program.py", mark]
        outcome = sandbox.run(argv, files={"program.py": source.encode()}, limits=limits)
        assert outcome.wall_seconds <= limits.wall_seconds + SLACK
        assert us.memory_info().rss - before <= MAX_GROWTH
        assert not marked(mark)
        assert SECRET not in outcome.stdout + outcome.stderr
        return outcome

    yield run
    for pid in marked(mark):
        os.kill(pid, signal.SIGKILL)


def marked(mark: str) -> list[int]:
    """Processes that a marked program left behind. The kernel may need a moment to remove the last ones."""
    for _ in range(20):
        left = [process.pid for process in psutil.process_iter() if mark in _command(process)]
        if not left:
            break
        time.sleep(0.01)
    return left


def _command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@pytest.fixture
def survivors() -> Callable[[str], list[int]]:
    return marked


@pytest.fixture
def ways_out(outside: Path) -> Iterator[dict[str, str]]:
    """Programs that try to get out, and a socket of ours at which nothing may arrive."""
    table = tomllib.loads(Path(__file__).with_name("ways_out.toml").read_text(encoding="utf-8"))
    path = outside / "datagrams"
    facts = {"ours": os.getpid(), "home": Path.home(), "cache": cache_dir(), "datagrams": path}
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        path.chmod(0o777)
        receiver.setblocking(False)
        yield {name: f"{HEAD}{part % facts}; print({name!r}, 'got through')" for name, part in table.items()}
        with pytest.raises(BlockingIOError):
            receiver.recv(1)
