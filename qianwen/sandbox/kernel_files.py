"""The files of a conversation: those in a folder of ours that its kernel gets, and those that come back from it.

The kernel has copies. Names and contents that come back are its own claims: a name is taken only if it is a plain path
below the folder, a file that the kernel did not write before is never replaced, and there is a limit of the total size.
"""

import itertools
import os
import re
from pathlib import Path, PurePosixPath

from qianwen.runtime.files import atomic_file

MAX_FILES = 32  # that come back from one cell
MAX_NAME, MAX_DEPTH = 120, 4  # bytes of one part of a path; number of parts
PNG = b"\x89PNG\r\n\x1a\n"


class FileRefused(Exception):
    """A file that does not come back; the message says why, for the model."""


class KernelFiles:
    """One folder, and which of its files the kernel has."""

    def __init__(self, folder: Path, num_bytes: int) -> None:
        self.folder = folder
        self._room = num_bytes
        self._given: dict[str, tuple[int, int, int]] = {}
        self._made: set[str] = set()

    def forget(self) -> None:
        """The kernel was started again, and has no files."""
        self._given.clear()

    def to_give(self, max_bytes: int) -> tuple[dict[str, bytes], list[str]]:
        """New and changed files, and the names of those larger than `max_bytes`, which are not given."""
        files, too_large = {}, []
        for path in sorted(self.folder.rglob("*")):
            name = path.relative_to(self.folder).as_posix()
            is_hidden = any(part.startswith(".") for part in PurePosixPath(name).parts)
            if is_hidden or path.is_symlink() or not path.is_file() or self._given.get(name) == _state(path):
                continue
            self._given[name] = _state(path)
            if path.stat().st_size > max_bytes:
                too_large.append(name)
            else:
                files[name] = path.read_bytes()
        return files, too_large

    def save(self, name: str, content: bytes) -> Path:
        """Write a file that the kernel made, under its name or, if that is a file of the user, a new one."""
        path = self.folder / check_name(name)
        if os.path.lexists(path) and name not in self._made:
            path = _unused(path.parent, path.stem + "-{}" + path.suffix, range(1, 1000))
        return self._write(path, content)

    def save_figure(self, content: bytes) -> Path:
        """Write a figure as fig-001.png, fig-002.png and so on."""
        if not content.startswith(PNG):
            raise FileRefused("a figure that is not a PNG file was dropped")
        return self._write(_unused(self.folder, "fig-{:03}.png", itertools.count(1)), content)

    def _write(self, path: Path, content: bytes) -> Path:
        name = path.relative_to(self.folder).as_posix()
        if len(content) > self._room:
            raise FileRefused(f"{name} was not returned: all files of a conversation have a limit of size")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.parent.resolve().is_relative_to(self.folder.resolve()) or path.is_dir():
                raise FileRefused(f"{name} was not returned: the name is in use")
            with atomic_file(path) as file:
                file.write(content)
        except (FileExistsError, NotADirectoryError):
            raise FileRefused(f"{name} was not returned: the name is in use") from None
        self._room -= len(content)
        self._made.add(name)
        self._given[name] = _state(path)
        return path


def check_name(name: str) -> str:
    """The name of a file that a kernel may write; FileRefused if it is not a plain relative path."""
    parts = PurePosixPath(name).parts
    is_plain = 0 < len(parts) <= MAX_DEPTH and "/".join(parts) == name and name.isprintable() and "\\" not in name
    if not is_plain or any(re.match(r"[./~-]", part) or len(part.encode()) > MAX_NAME for part in parts):
        raise FileRefused(f"a file was not returned: its name {name[:80]!r} is not a plain one")
    return name


def _unused(folder: Path, form: str, numbers: itertools.count | range) -> Path:
    for number in numbers:
        if not os.path.lexists(path := folder / form.format(number)):
            return path
    raise FileRefused("a file was not returned: its name is in use")


def _state(path: Path) -> tuple[int, int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino
