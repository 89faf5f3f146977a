"""A program that runs in a back-end, from outside: start the launcher, interrupt the program, end everything.

The launcher gets three descriptors: its configuration in a sealed memory file, a pipe for its report, and a pipe for
our requests, the lifeline. When the lifeline closes, because we close it or because we are killed, the run ends.
"""

import itertools
import marshal
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import PurePosixPath
from typing import BinaryIO, Literal

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.sandbox import bubblewrap, control_group, visible
from qianwen.sandbox.control_group import ControlGroup
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.removal import remove_folder
from qianwen.sandbox.supervisor import INTERRUPT

Backend = Literal["bubblewrap", "namespaces", "landlock"]
GRACE = 0.2  # seconds that the supervisor has to end a run before it is killed itself
ERRORS = 1 << 16  # bytes of a launcher's error messages
# The package without its `__init__`, whose imports take longer than all of the launcher.
BOOT = """import sys
package = sys.modules["qianwen"] = type(sys)("qianwen")
package.__path__ = [sys.argv[1]]
from qianwen.sandbox.launcher import main
main(sys.argv[2:])"""
FIRST_USER, NUM_USERS = 61184, 4336  # user ids for services without an account, as systemd has them
_numbers = itertools.count()
_users: set[int] = set()  # that have a run now


class SandboxFailed(Exception):
    """The isolation could not be set up; the message is the kernel's reason."""


@dataclass(frozen=True)
class Ending:
    """What the supervisor reported."""

    exit_code: int
    ended_by: str | None  # stopped, wall, cpu, memory, folder; None: the program ended by itself
    cpu_seconds: float
    errors: str = ""  # the error output that was not read before


class RunningProgram:
    """A program and all processes that it starts. `end` must be called; it may be called again.

    `keep` are descriptors of ours that the program inherits. The thread that starts a program must outlive it, because
    the kernel ends the program with that thread.
    """

    def __init__(
        self,
        backend: Backend,
        argv: Sequence[str],
        files: Mapping[str, bytes],
        limits: Limits,
        *,
        stdin: bytes = b"",
        keep: Sequence[int] = (),
    ) -> None:
        self.backend, self.started, self.wall_seconds = backend, time.monotonic(), 0.0
        self._ending: Ending | None = None
        for name in files:
            _check_inside(name)
        with ExitStack() as stack:
            config = _configuration(backend, argv, files, limits, stack)
            config["deadline"] = self.started + limits.wall_seconds
            config["keep"] = list(keep)
            self._group = _control_group(limits, stack)
            self._report, for_report = _pipe(stack)
            for_lifeline, self._lifeline = _pipe(stack)
            given = (_memory_file(marshal.dumps(config), stack), for_report.fileno(), for_lifeline.fileno())
            command = _command(config, given)
            self.process = subprocess.Popen(
                self._group.entering(command) if self._group else command,
                stdin=_memory_file(stdin, stack),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=(*given, *keep),
                env={},
                cwd="/",
                start_new_session=True,
            )
            for_report.close()
            for_lifeline.close()
            self._opened = stack.pop_all()

    def interrupt(self) -> None:
        """Send SIGINT to the program and its children, as a terminal does."""
        with suppress(OSError):  # it has ended
            self._lifeline.write(INTERRUPT)
            self._lifeline.flush()

    def end(self, errors: bytes = b"") -> Ending:
        """End every process of the run and return how the program ended.

        Without a report from the supervisor there was no program: SandboxFailed, with the reason in `errors`, which is
        what was already read of the error output.
        """
        if self._ending is None:
            with self._opened:
                self._ending = self._end(errors)
        return self._ending

    def _end(self, errors: bytes) -> Ending:
        with suppress(OSError):  # an interrupt that nobody read
            self._lifeline.close()
        was_killed = self._wait()
        self.wall_seconds = time.monotonic() - self.started
        left = self._read_errors()
        is_exhausted = self._group is not None and self._group.has_ended_a_process()
        line = self._report.readline().decode("utf-8", "replace").rstrip("\n")
        first, _, rest = line.partition(" ")
        if line and first != "failed":
            cpu, _, ended_by = rest.partition(" ")
            ending = Ending(int(first), ended_by or None, float(cpu), left)
        elif was_killed or is_exhausted:
            ending = Ending(-signal.SIGKILL, "wall", 0.0, left)
        else:
            raise SandboxFailed(rest or (errors.decode("utf-8", "replace") + left).strip() or "no report")
        if is_exhausted and ending.exit_code == -signal.SIGKILL:
            return replace(ending, ended_by="memory")
        return ending

    def _wait(self) -> bool:
        """Wait for the supervisor, and return whether it had to be killed. Its processes end with it.

        Without a process namespace they would not, so there it has the time that it needs.
        """
        was_killed = False
        try:
            self.process.wait(None if self.backend == "landlock" else GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            was_killed = True
        return was_killed

    def _read_errors(self) -> str:
        """Close the outputs, and return what is left of the error output."""
        assert self.process.stdout and self.process.stderr
        with self.process.stdout, self.process.stderr:
            os.set_blocking(self.process.stderr.fileno(), False)
            return (self.process.stderr.read(ERRORS) or b"").decode("utf-8", "replace")


def _check_inside(name: str) -> None:
    """The launcher writes files before it gives up its rights, so a name must not leave the program's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise ConfigError(tr("{name!r} is not the name of a file inside the program's folder", name=name))


def _configuration(
    backend: Backend, argv: Sequence[str], files: Mapping[str, bytes], limits: Limits, stack: ExitStack
) -> dict:
    readable = visible.readable()
    space = f"size={limits.folder_bytes},nr_inodes={limits.folder_entries},mode=1777"
    folder, writable = "/tmp", {"/tmp": space, "/dev/shm": space}
    if backend == "landlock":
        folder = tempfile.mkdtemp(prefix="qianwen-sandbox-")
        stack.callback(remove_folder, folder)
        writable = {folder: ""}
    return {
        "backend": backend,
        "argv": list(argv),
        "environment": visible.environment(folder),
        "folder": folder,
        "files": dict(files),
        "limits": asdict(limits),
        "parent": os.getpid(),
        "readable": readable,
        "allowed": [*readable.values()] if backend == "landlock" else ["/"],
        "devices": list(visible.DEVICES),
        "writable": writable,
        "uid": _new_user(stack) if os.geteuid() == 0 else None,
    }


def _new_user(stack: ExitStack) -> int:
    """A user id that no other run of this process has at the same time; each process begins at another one."""
    while (uid := FIRST_USER + (64 * os.getpid() + next(_numbers)) % NUM_USERS) in _users:
        continue
    _users.add(uid)
    stack.callback(_users.discard, uid)
    return uid


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
