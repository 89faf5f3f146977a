"""A code interpreter: an IPython kernel inside the isolation, whose variables last from cell to cell.

    with Kernel.open(Sandbox.open(), folder) as kernel:
        kernel.run("x = 6 * 7")
        kernel.run("x").result  # "42"

A cell sees copies of the files of `folder`; its figures, and the files that it wrote, come back into it. A cell that
runs too long is interrupted, and the kernel is ended if that does not help; the next cell has a new kernel.
"""

import importlib.util
import threading
import time
from pathlib import Path

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.sandbox.cell import Cell, CellResult, CellStatus
from qianwen.sandbox.channel import BrokenChannel
from qianwen.sandbox.kernel_files import KernelFiles
from qianwen.sandbox.kernel_process import KernelProcess
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Sandbox
from qianwen.sandbox.running import SandboxFailed

# Of a kernel, but for `output_bytes`, which are of a cell.
LIMITS = Limits(
    cpu_seconds=600,
    wall_seconds=4 * 3600,
    memory_bytes=2 << 30,
    processes=64,
    folder_bytes=256 << 20,
    output_bytes=64 << 10,
)
STOP_SECONDS = 2.0  # that a cell has to stop after an interrupt
MAX_READ = 64 << 20  # bytes of messages that are read from one cell
LOST = "The interpreter was started again: variables and imports of earlier cells are lost."
REASONS = {
    "memory": "it used too much memory",
    "cpu": "the processor time of the conversation is used up",
    "wall": "the time of the conversation is used up",
    "folder": "its files were too many or too large",
    None: "its process stopped",
}


class Kernel:
    """A kernel of one conversation. It starts with the first cell. Threads may share it: cells run one by one."""

    def __init__(self, sandbox: Sandbox, folder: Path, limits: Limits, has_lost_state: bool = False) -> None:
        self.limits = limits
        self._sandbox = sandbox
        self._files = KernelFiles(folder, limits.folder_bytes)
        self._process: KernelProcess | None = None
        self._has_lost_state = has_lost_state
        self._lock = threading.Lock()

    @classmethod
    def open(cls, sandbox: Sandbox, folder: Path, limits: Limits = LIMITS, *, has_lost_state: bool = False) -> "Kernel":
        """A kernel in a back-end that was checked; ConfigError if the packages that it needs are not installed.

        `has_lost_state`: cells of this conversation ran in a kernel that is gone, and the next cell says so.
        """
        for package in ("ipykernel", "matplotlib_inline"):
            if importlib.util.find_spec(package) is None:
                message = "the code interpreter needs the package {name}: pip install 'qianwen[agents]'"
                raise ConfigError(tr(message, name=package))
        return cls(sandbox, folder, limits, has_lost_state)

    def __enter__(self) -> "Kernel":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the kernel with all processes that its cells started. A later cell starts a new one."""
        with self._lock:
            if self._process:
                self._end(self._process)

    def run(self, code: str, seconds: float = 30.0) -> CellResult:
        """Run a cell for at most so many seconds. ConfigError if no kernel can be started."""
        with self._lock:
            process, was_lost = self._ready(), self._has_lost_state
            self._has_lost_state = False
            files, too_large = self._files.to_give(self.limits.file_bytes)
            cell = Cell("", self._files, self.limits.output_bytes)
            for note in [LOST] * was_lost + [f"{name} is too large for the interpreter" for name in too_large]:
                cell.note(note)
            started = time.monotonic()
            try:
                cell.request = process.send(code, files, seconds)
                status = self._follow(process, cell, seconds)
            except BrokenChannel:
                status = self._bury(process, cell)
            except BaseException:
                self._end(process)
                raise
            return cell.result(status, time.monotonic() - started)

    def _ready(self) -> KernelProcess:
        """The kernel that runs, or a new one."""
        if self._process and self._process.has_ended():
            self._end(self._process)
        if not self._process:
            self._files.forget()
            try:
                self._process = KernelProcess(self._sandbox.backend, self.limits)
            except (SandboxFailed, OSError) as failure:
                message = "the sandbox ({name}) could not start a program: {reason}"
                raise ConfigError(tr(message, name=self._sandbox.backend, reason=failure)) from None
        return self._process

    def _follow(self, process: KernelProcess, cell: Cell, seconds: float) -> CellStatus:
        """Read what the kernel sends until the cell is done, and stop a cell that exceeds its limits."""
        status: CellStatus | None = None
        deadline, first = time.monotonic() + seconds, process.num_read
        while not cell.is_done:
            left = deadline - time.monotonic()
            has_much_output = cell.is_cut or process.num_read - first > MAX_READ
            if status is None and (left <= 0 or has_much_output):
                status = "output" if has_much_output else "timeout"
                reason = f"{seconds:g} s passed"
                if has_much_output:
                    reason = f"its output was longer than {cell.limit} bytes"
                cell.note(f"The cell was interrupted: {reason}.")
                process.interrupt()
                left = STOP_SECONDS
                deadline = time.monotonic() + left
            elif left <= 0:
                cell.note("The cell did not stop, so the interpreter was ended.")
                self._end(process)
                return status or "timeout"
            for message in process.receive(left):
                cell.take(message)
        if cell.is_cut and status is None:
            cell.note(f"The output was cut: it was longer than {cell.limit} bytes.")
            status = "output"
        if cell.error and cell.error.name == "MemoryError":
            return "memory"
        return status or ("error" if cell.error else "ok")

    def _bury(self, process: KernelProcess, cell: Cell) -> CellStatus:
        """The kernel ended during a cell: say why."""
        ended_by = self._end(process)
        cell.note(f"The interpreter ended: {REASONS.get(ended_by, REASONS[None])}.")
        statuses: dict[str | None, CellStatus] = {"memory": "memory", "cpu": "timeout", "wall": "timeout"}
        return statuses.get(ended_by, "killed")

    def _end(self, process: KernelProcess) -> str | None:
        self._process, self._has_lost_state = None, True
        try:
            return process.end().ended_by
        except SandboxFailed:  # it could not even report
            return None
