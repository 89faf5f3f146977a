"""One run, from outside: start the launcher in a back-end, read the output up to its limit, and end everything.

The launcher gets three descriptors: its configuration in a sealed memory file, a pipe for its report, and a pipe that
nobody writes to. When the last one closes, because we close it or because we are killed, the run ends.
"""

import itertools
import marshal
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.sandbox import bubblewrap, control_group, visible
from qianwen.sandbox.control_group import ControlGroup
from qianwen.sandbox.limits import Limits

Backend = Literal["bubblewrap", "namespaces", "landlock"]
GRACE = 0.2  # seconds that the supervisor has to end a run before it is killed itself
CHUNK = 1 << 16
# The package without its `__init__`, whose imports take longer than all of the launcher.
BOOT = """import sys
package = sys.modules["qianwen"] = type(sys)("qianwen")
package.__path__ = [sys.argv[1]]
from qianwen.sandbox.launcher import main
main(sys.argv[2:])"""
FIRST_USER, NUM_USERS = 61184, 4336  # user ids for services without an account, as systemd has them
_numbers = itertools.count()


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
    for name in files:
        _check_inside(name)
    with ExitStack() as stack:
        config = _configuration(backend, argv, files, limits, started, stack)
        group = _control_group(limits, stack)
        report, for_report = _pipe(stack)
        for_lifeline, lifeline = _pipe(stack)
        settings = _memory_file(marshal.dumps(config), stack)
        given = (settings, for_report.fileno(), for_lifeline.fileno())
        command = _command(config, given)
        process = subprocess.Popen(
            group.entering(command) if group else command,
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
        was_killed = _end(process, lifeline, backend)
        is_exhausted = group is not None and group.has_ended_a_process()
        line = report.readline().decode("utf-8", "replace").rstrip("\n")
    code, cpu, ended_by = _read_report(line, output[1], has_ended_early=was_killed or is_exhausted)
    if is_exhausted and code == -signal.SIGKILL:
        ended_by = "memory"
    return Execution(
        exit_code=code,
        ended_by=ended_by,
        cpu_seconds=cpu,
        wall_seconds=time.monotonic() - started,
        output=output,
        is_cut=is_cut,
    )


def _read_report(line: str, errors: bytes, *, has_ended_early: bool) -> tuple[int, float, str | None]:
    """Exit code, processor time and what ended the run. Without a report from the supervisor there was no program."""
    first, _, rest = line.partition(" ")
    if line and first != "failed":
        cpu, _, ended_by = rest.partition(" ")
        return int(first), float(cpu), ended_by or None
    if has_ended_early:
        return -signal.SIGKILL, 0.0, "wall"
    raise SandboxFailed(rest or errors.decode("utf-8", "replace").strip() or "no report")


def _check_inside(name: str) -> None:
    """The launcher writes files before it gives up its rights, so a name must not leave the program's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ConfigError(tr("{name!r} is not the name of a file inside the program's folder", name=name))


def _configuration(
    backend: Backend, argv: Sequence[str], files: Mapping[str, bytes], limits: Limits, started: float, stack: ExitStack
) -> dict:
    readable = visible.readable()
    space = f"size={limits.folder_bytes},nr_inodes={limits.folder_entries},mode=1777"
    folder, writable = "/tmp", {"/tmp": space, "/dev/shm": space}
    if backend == "landlock":
        folder = tempfile.mkdtemp(prefix="qianwen-sandbox-")
        stack.callback(_remove, folder)
        writable = {folder: ""}
    return {
        "backend": backend,
        "argv": list(argv),
        "environment": visible.environment(folder),
        "folder": folder,
        "files": dict(files),
        "limits": asdict(limits),
        "deadline": started + limits.wall_seconds,
        "parent": os.getpid(),
        "readable": readable,
        "allowed": [*readable.values()] if backend == "landlock" else ["/"],
        "devices": list(visible.DEVICES),
        "writable": writable,
        "uid": _new_user() if os.geteuid() == 0 else None,
    }


def _new_user() -> int:
    """A user id that no other run has at the same time: those of one process follow each other."""
    return FIRST_USER + (64 * os.getpid() + next(_numbers)) % NUM_USERS


def _command(config: dict, descriptors: Sequence[int]) -> list[str]:
    launcher = [sys.executable, "-I", "-S", "-c", BOOT, visible.PACKAGE, *map(str, descriptors)]
    if config["backend"] != "bubblewrap":
        return launcher
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxFailed(tr("the program bwrap is not installed"))
    return [program, *bubblewrap.arguments(config["readable"], config["devices"], config["writable"]), *launcher]


def _control_group(limits: Limits, stack: ExitStack) -> ControlGroup | None:
    """A group for one run, if we may make one. Files in memory count in it."""
    group = control_group.make(next(_numbers), limits.memory_bytes + limits.folder_bytes)
    if group:
        stack.callback(group.remove)
    return group


def _remove(folder: str) -> None:
    """Remove a program's folder, also those in it that the program made unreadable. Links are not followed."""
    for above, names, _ in os.walk(folder):
        for name in names:
            if not os.path.islink(path := os.path.join(above, name)):
                os.chmod(path, 0o700)
    shutil.rmtree(folder)


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


def _end(process: subprocess.Popen[bytes], lifeline: BinaryIO, backend: Backend) -> bool:
    """Let the supervisor end the run, and return whether it had to be killed. Its processes end with it.

    Without a process namespace they would not, so there we wait for it.
    """
    lifeline.close()
    was_killed = False
    try:
        process.wait(None if backend == "landlock" else GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        was_killed = True
    for pipe in (process.stdout, process.stderr):
        if pipe:
            pipe.close()
    return was_killed
