"""One run, from outside: start the launcher in a back-end, read the output up to its limit, and end everything.

The launcher gets three descriptors: its configuration in a sealed memory file, a pipe for its report, and a pipe that
nobody writes to. When the last one closes, because we close it or because we are killed, the run ends.
"""

import itertools
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from typing import BinaryIO, Literal

from qianwen.sandbox import bubblewrap, visible
from qianwen.sandbox.limits import Limits

Backend = Literal["bubblewrap", "namespaces", "landlock"]
GRACE = 0.25  # seconds that the supervisor has to end a run before it is killed itself
CHUNK = 1 << 16
BOOT = "import sys; sys.path.insert(0, sys.argv.pop(1)); from qianwen.sandbox.launcher import main; main(sys.argv[1:])"
FIRST_USER, NUM_USERS = 61184, 4336  # user ids for services without an account, as systemd has them
_numbers = itertools.count(os.getpid())


class SandboxFailed(Exception):
    """The isolation could not be set up; the message is the kernel's reason."""


@dataclass(frozen=True, kw_only=True)
class Execution:
    """What the supervisor reported and what the program wrote."""

    exit_code: int
    ended_by: str | None  # stopped, wall, cpu, memory, folder; None: the program ended by itself
    cpu_seconds: float
    wall_seconds: float
    output: tuple[bytes, bytes]  # standard output, standard error
    is_cut: bool  # there was more output than allowed


def execute(
    backend: Backend, argv: Sequence[str], files: Mapping[str, bytes], stdin: bytes, limits: Limits
) -> Execution:
    """Run a command and return when no process of it is left."""
    started = time.monotonic()
    with ExitStack() as stack:
        config = _configuration(backend, argv, files, limits, started, stack)
        report, for_report = _pipe(stack)
        for_lifeline, lifeline = _pipe(stack)
        settings = _memory_file(json.dumps(config).encode() + b"\n" + b"".join(files.values()), stack)
        given = (settings, for_report.fileno(), for_lifeline.fileno())
        process = subprocess.Popen(
            _command(config, given),
            stdin=_memory_file(stdin, stack),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=given,
            env={},
            cwd="/",
            start_new_session=True,
        )
        stack.callback(_end, process, lifeline, backend)
        for_report.close()
        for_lifeline.close()
        output, is_cut = _read(process, limits.output_bytes, started + limits.wall_seconds + GRACE)
        _end(process, lifeline, backend)
        result = json.loads(report.readline() or b"{}")
    wall = time.monotonic() - started
    if "exit_code" not in result:
        if wall < limits.wall_seconds:
            raise SandboxFailed(result.get("failed") or output[1].decode("utf-8", "replace").strip() or "no report")
        result = {"exit_code": -9, "ended_by": "wall", "cpu_seconds": 0.0}
    return Execution(**result, wall_seconds=wall, output=output, is_cut=is_cut)


def _configuration(
    backend: Backend, argv: Sequence[str], files: Mapping[str, bytes], limits: Limits, started: float, stack: ExitStack
) -> dict:
    uid = FIRST_USER + next(_numbers) % NUM_USERS if os.geteuid() == 0 else None
    readable = visible.readable()
    space = f"size={limits.folder_bytes},nr_inodes={limits.folder_entries},mode=1777"
    folder, writable = "/tmp", {"/tmp": space, "/dev/shm": space}
    if backend == "landlock":
        folder = tempfile.mkdtemp(prefix="qianwen-sandbox-")
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        writable = {folder: ""}
    return {
        "backend": backend,
        "argv": list(argv),
        "environment": visible.environment(folder),
        "folder": folder,
        "files": [(name, len(content)) for name, content in files.items()],
        "limits": asdict(limits),
        "deadline": started + limits.wall_seconds,
        "parent": os.getpid(),
        "readable": readable,
        "allowed": [*readable.values()] if backend == "landlock" else ["/"],
        "devices": list(visible.DEVICES),
        "writable": writable,
        "uid": uid,
    }


def _command(config: dict, descriptors: Sequence[int]) -> list[str]:
    launcher = [sys.executable, "-I", "-S", "-B", "-c", BOOT, visible.CODE, *map(str, descriptors)]
    if config["backend"] != "bubblewrap":
        return launcher
    return bubblewrap.command(config["readable"], config["devices"], config["writable"], launcher)


def _pipe(stack: ExitStack) -> tuple[BinaryIO, BinaryIO]:
    read, write = os.pipe()
    return stack.enter_context(open(read, "rb")), stack.enter_context(open(write, "wb"))


def _memory_file(content: bytes, stack: ExitStack) -> int:
    """A file in memory that can be read only."""
    import fcntl  # Windows has none, and there nobody gets here

    descriptor = os.memfd_create("qianwen", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    stack.callback(os.close, descriptor)
    with open(descriptor, "wb", closefd=False) as file:
        file.write(content)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, seals)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def _read(process: subprocess.Popen[bytes], limit: int, deadline: float) -> tuple[tuple[bytes, bytes], bool]:
    """Both outputs up to `limit` bytes together, and whether there was more."""
    pipes = [pipe.fileno() for pipe in (process.stdout, process.stderr) if pipe]
    output = {pipe: bytearray() for pipe in pipes}
    events = select.poll()
    for pipe in pipes:
        events.register(pipe, select.POLLIN)
    waiting, room = len(pipes), limit
    while waiting and (left := deadline - time.monotonic()) > 0:
        for pipe, _ in events.poll(left * 1000):
            if not (piece := os.read(pipe, CHUNK)):
                events.unregister(pipe)
                waiting -= 1
            output[pipe] += piece[:room]
            if len(piece) > room:
                return (bytes(output[pipes[0]]), bytes(output[pipes[1]])), True
            room -= len(piece)
    return (bytes(output[pipes[0]]), bytes(output[pipes[1]])), False


def _end(process: subprocess.Popen[bytes], lifeline: BinaryIO, backend: Backend) -> None:
    """Let the supervisor end the run. In a process namespace the run also ends with the launcher."""
    lifeline.close()
    try:
        process.wait(None if backend == "landlock" else GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
