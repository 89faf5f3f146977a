"""What a cell of code did: its output, result, error, figures and files, collected from a kernel's messages."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from qianwen.sandbox.kernel_files import MAX_FILES, FileRefused, KernelFiles
from qianwen.sandbox.kernel_messages import Message

CellStatus = Literal["ok", "error", "timeout", "memory", "output", "killed"]
ESCAPES = re.compile(
    r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]+[0-~]?|.?)", re.S
)
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
OVERWRITTEN = re.compile(r"[^\n]*\r(?=[^\n])")  # as progress bars do
LIBRARY_FRAME = re.compile(r"^  File (?!~/)[^\n]*\n?(?:    [^\n]*\n?)?", re.M)  # ~ is the folder of the cells
TRACEBACK = "Traceback (most recent call last):"
MAX_TRACEBACK = 12  # lines


@dataclass(frozen=True)
class CellError:
    """An exception in a cell."""

    name: str
    value: str
    traceback: str  # shortened in the middle


@dataclass(frozen=True, kw_only=True)
class CellResult:
    """How a cell ended. Texts have no terminal codes. `notes` say what else the model should know."""

    status: CellStatus  # as of a program; killed: the kernel ended, and the state with it
    stdout: str = ""
    stderr: str = ""
    result: str = ""  # the value of the last expression, and what was displayed
    error: CellError | None = None
    figures: tuple[Path, ...] = ()
    files: tuple[Path, ...] = ()
    notes: tuple[str, ...] = ()
    wall_seconds: float = 0.0


@dataclass
class Cell:
    """A cell while it runs. Texts together have at most `limit` bytes; what exceeds that is cut."""

    request: str
    folder: KernelFiles
    limit: int
    texts: dict[str, str] = field(default_factory=lambda: {"stdout": "", "stderr": "", "result": ""})
    error: CellError | None = None
    figures: list[Path] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    room: int = field(init=False)
    is_cut: bool = False
    is_idle: bool = False
    is_answered: bool = False

    def __post_init__(self) -> None:
        self.room = self.limit

    @property
    def is_done(self) -> bool:
        return self.is_idle and self.is_answered

    def take(self, message: Message) -> None:
        """Add what a message says. One that is about another request, or of an unknown kind, says nothing."""
        content = message.content
        if message.request != self.request:
            return
        match message.kind:
            case "stream" if content.get("name") in ("stdout", "stderr"):
                self._add(content["name"], content.get("text"))
            case "execute_result" | "display_data":
                data = content.get("data")
                self._add("result", data.get("text/plain") if isinstance(data, dict) else None, end="\n")
            case "error":
                self._take_error(content)
            case "figure" | "file":
                self._save(message)
            case "status":
                self.is_idle = self.is_idle or content.get("execution_state") == "idle"
            case "execute_reply":
                self.is_answered = True

    def _add(self, name: str, text: Any, end: str = "") -> None:
        if not isinstance(text, str):
            return
        whole = (text + end).encode("utf-8", "replace")
        self.is_cut = self.is_cut or len(whole) > self.room
        self.texts[name] += whole[: self.room].decode("utf-8", "ignore")
        self.room -= min(self.room, len(whole))

    def _take_error(self, content: Mapping[str, Any]) -> None:
        lines = content.get("traceback")
        trace = "\n".join(map(str, lines)) if isinstance(lines, list) else ""
        name, value = (clean(str(content.get(each, "")))[:2000] for each in ("ename", "evalue"))
        self.error = CellError(name, value, shortened(clean(trace)))

    def _save(self, message: Message) -> None:
        try:
            if len(self.files) + len(self.figures) >= MAX_FILES:
                raise FileRefused(f"a cell returns at most {MAX_FILES} files; the rest was dropped")
            if message.kind == "figure":
                self.figures.append(self.folder.save_figure(message.buffer))
                return
            name, size = (message.content.get(each) for each in ("name", "size"))
            if not isinstance(name, str) or not isinstance(size, int):
                return
            if size != len(message.buffer):
                raise FileRefused(f"{name[:80]!r} was not returned: it is too large ({size} bytes)")
            self.files.append(self.folder.save(name, message.buffer))
        except FileRefused as refused:
            self.note(str(refused))

    def note(self, text: str) -> None:
        if text not in self.notes and len(self.notes) < MAX_FILES:
            self.notes.append(text)

    def result(self, status: CellStatus, wall_seconds: float) -> CellResult:
        return CellResult(
            status=status,
            **{name: clean(text).rstrip() for name, text in self.texts.items()},
            error=self.error,
            figures=tuple(self.figures),
            files=tuple(self.files),
            notes=tuple(self.notes),
            wall_seconds=wall_seconds,
        )


def clean(text: str) -> str:
    """Text as a terminal would leave it: without colours, lines that were overwritten, and control characters."""
    plain = ESCAPES.sub("", text).replace("\r\n", "\n")
    return CONTROLS.sub("", OVERWRITTEN.sub("", plain))


def shortened(traceback: str) -> str:
    """The frames of a traceback that are not in a library; of many the first ones, and the last ones with the error."""
    last = traceback[max(traceback.rfind(TRACEBACK), 0) :]  # of exceptions that were raised while handling others
    own = LIBRARY_FRAME.sub("", last if "  Cell " in last else traceback)
    lines = [line for line in own.splitlines() if line.strip()]
    if len(lines) > MAX_TRACEBACK:
        half = MAX_TRACEBACK // 2
        lines = [*lines[:half], "    …", *lines[-half:]]
    return "\n".join(line[:500] for line in lines)
