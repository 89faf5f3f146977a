"""Run a program that a model wrote, inside the isolation of this machine, within limits.

    sandbox = Sandbox.open()
    outcome = sandbox.run_python("print(6 * 7)", limits=Limits(cpu_seconds=2))
    outcome.status, outcome.stdout  # "ok", "42\\n"

A `Sandbox` has no state of its own, so threads may share one.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.sandbox.execution import Execution, execute
from qianwen.sandbox.isolation import choose
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.running import Backend, SandboxFailed

Status = Literal["ok", "error", "timeout", "memory", "output", "killed"]
PROGRAM = "program.py"
LIMITS = Limits()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """How a program ended. Texts are decoded as UTF-8 with replacements, and may contain control characters."""

    status: Status  # error: the program ended with another status than 0; killed: a signal ended it
    exit_code: int  # a negative number is a signal
    stdout: str
    stderr: str
    cpu_seconds: float
    wall_seconds: float


class Sandbox:
    """Runs programs in one back-end, which was checked on this machine."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend

    @classmethod
    def open(cls, name: Literal["auto"] | Backend = "auto") -> "Sandbox":
        """The first back-end that works here, or the named one; ConfigError with the reasons if there is none."""
        return cls(choose(name))

    def run_python(
        self, program: str, *, stdin: bytes = b"", files: Mapping[str, bytes] | None = None, limits: Limits = LIMITS
    ) -> Outcome:
        """Run the source code of a program with the Python that runs us, and with its packages."""
        sources = {**(files or {}), PROGRAM: program.encode("utf-8", "surrogatepass")}
        return self.run([sys.executable, "-I", "-B", PROGRAM], stdin=stdin, files=sources, limits=limits)

    def run(
        self,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        files: Mapping[str, bytes] | None = None,
        limits: Limits = LIMITS,
    ) -> Outcome:
        """Run a command (its program by its whole path) in a new folder that has these files and is gone afterwards."""
        try:
            execution = execute(self.backend, argv, files or {}, stdin, limits)
        except (SandboxFailed, OSError) as failure:
            message = tr("the sandbox ({name}) could not start a program: {reason}", name=self.backend, reason=failure)
            raise ConfigError(message) from None
        stdout, stderr = (text.decode("utf-8", "replace") for text in execution.output)
        return Outcome(
            status=_status(execution, stderr),
            exit_code=execution.exit_code,
            stdout=stdout,
            stderr=stderr,
            cpu_seconds=execution.cpu_seconds,
            wall_seconds=execution.wall_seconds,
        )


def _status(execution: Execution, stderr: str) -> Status:
    if execution.is_cut:
        return "output"
    if execution.ended_by in ("wall", "cpu"):
        return "timeout"
    if execution.ended_by == "memory":
        return "memory"
    if execution.ended_by or execution.exit_code < 0:
        return "killed"
    if execution.exit_code:
        last = stderr.rstrip().rpartition("\n")[2].partition(":")[0]
        return "memory" if last.endswith("MemoryError") else "error"
    return "ok"
