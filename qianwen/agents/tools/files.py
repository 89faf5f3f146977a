"""Tools that list, read and search the files of a run, and nothing outside of its folder.

A name is opened one part after the other, from the folder on, and a link is never followed. So no name leads outside,
whatever it looks like, and it does not help to replace a folder by a link at the right moment. Names are not decoded or
normalised: "%2e%2e" is a file with that name.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path

from qianwen.agents.tool import CallContext, Tool
from qianwen.agents.tools.documents import MAX_BYTES, text_of
from qianwen.agents.tools.functions import function_tool
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr

MAX_FILES = 200  # in a list, and searched
MAX_DEPTH = 20  # of folders in folders
MAX_LINES = 400  # of one reading
MAX_LINE = 2000  # characters of a line
MAX_HITS = 50


def files(*, folder: str | Path = "") -> Sequence[Tool]:
    """The three tools. `folder` is another folder to read than that of the run."""
    root = Path(folder) if folder else None
    if root and not root.is_dir():
        raise ConfigError(tr("there is no folder {path}", path=root))

    def list_files(context: CallContext) -> str:
        """List the files that can be read, with their sizes."""
        entries = [f"{_shown(name)} ({size:,} bytes)" for name, size in list_folder(root or context.folder)]
        if len(entries) == MAX_FILES:
            entries.append(f"Only the first {MAX_FILES} files are listed.")
        return "\n".join(entries) or "There are no files."

    def read_file(path: str, context: CallContext, first_line: int = 1, last_line: int | None = None) -> str:
        """Read lines of a file: text, CSV, PDF, Word (.docx) or Excel (.xlsx). At most 400 lines are returned at once.

        Args:
            path: its name as in list_files
            first_line: the first line to return; lines count from 1
            last_line: the last line to return
        """
        text = text_of(path, read_inside(root or context.folder, path), context.seconds)
        lines = text.splitlines()
        start = max(1, first_line)
        end = min(len(lines), start + MAX_LINES - 1, len(lines) if last_line is None else last_line)
        if start > end:
            message = "{name} has {count} lines; there are none from {first} to {last}"
            raise ToolError(tr(message, name=excerpt(path), count=len(lines), first=start, last=last_line or end))
        head = f"{_shown(path)}, lines {start} to {end} of {len(lines)}:"
        return "\n".join([head, *(_short(line) for line in lines[start - 1 : end])])

    def search_files(text: str, context: CallContext, path: str = "") -> str:
        """Find the lines of files that contain a text; upper and lower case are the same.

        Args:
            text: what to look for, as it is written
            path: search only this file
        """
        folder, needle = root or context.folder, text.casefold()
        if not needle:
            raise ToolError(tr("the text to look for is empty"))
        hits: list[str] = []
        for name in [path] if path else [name for name, _ in list_folder(folder)]:
            with suppress(*(() if path else (ToolError,))):  # a picture among the files
                content = text_of(name, read_inside(folder, name), context.seconds)
                lines = enumerate(content.splitlines(), start=1)
                hits += [
                    f"{_shown(name)}:{place}: {_short(line)}" for place, line in lines if needle in line.casefold()
                ]
            if len(hits) > MAX_HITS:
                return "\n".join([*hits[:MAX_HITS], f"There are more than these {MAX_HITS} lines."])
        return "\n".join(hits) or "No line contains this text."

    return tuple(function_tool(tool, effect="reads") for tool in (list_files, read_file, search_files))


def list_folder(root: Path) -> list[tuple[str, int]]:
    """The names of the first files below a folder and their sizes, in order. Links and devices are left out."""
    with _opened(root) as folder:
        return sorted(islice(_walk(folder, "", 0), 10 * MAX_FILES))[:MAX_FILES]  # a program may have made millions


def _walk(folder: int, prefix: str, depth: int) -> Generator[tuple[str, int]]:
    """The files of an open folder. (`os.fwalk` opens a link to a folder before it sees that it is one.)"""
    with os.scandir(folder) as entries:
        for entry in sorted(islice(entries, 10 * MAX_FILES), key=lambda entry: entry.name):
            with suppress(OSError):  # gone since, or replaced by a link
                if entry.is_file(follow_symlinks=False):
                    yield prefix + entry.name, entry.stat(follow_symlinks=False).st_size
                elif entry.is_dir(follow_symlinks=False) and depth < MAX_DEPTH:
                    with _opened(entry.name, folder, os.O_DIRECTORY) as inner:
                        yield from _walk(inner, f"{prefix}{entry.name}/", depth + 1)


def read_inside(root: Path, name: str) -> bytes:
    """The bytes of a file by its name below `root`; ToolError if there is no such file, or it is too large."""
    parts = [part for part in name.split("/") if part not in ("", ".")]
    is_path = name.startswith("/") or "\\" in name or re.match(r"[A-Za-z]:", name)
    if is_path or "\0" in name or ".." in parts or not parts:
        raise ToolError(tr("{name} is not the name of a file in this folder; see list_files", name=excerpt(name)))
    try:
        with ExitStack() as opened:
            place = opened.enter_context(_opened(root))
            for part in parts[:-1]:
                place = opened.enter_context(_opened(part, place, os.O_DIRECTORY))
            status = os.stat(parts[-1], dir_fd=place, follow_symlinks=False)
            if not stat.S_ISREG(status.st_mode):  # before it is opened: opening a device may do something
                raise FileNotFoundError
            descriptor = opened.enter_context(_opened(parts[-1], place, os.O_NONBLOCK))
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise FileNotFoundError
            with os.fdopen(os.dup(descriptor), "rb") as file:
                data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError):  # not there, a link, a name that is too long or cannot be encoded
        names = ", ".join(_shown(name) for name, _ in list_folder(root)[:20])
        raise ToolError(
            tr("there is no file {name}; there are: {names}", name=excerpt(name), names=names or "-")
        ) from None
    if len(data) > MAX_BYTES:
        raise ToolError(tr("{name} is larger than {size:.0f} MB", name=excerpt(name), size=MAX_BYTES / 1e6))
    return data


@contextmanager
def _opened(name: str | Path, place: int | None = None, flags: int = 0) -> Generator[int]:
    """A descriptor of one part of a name; the last part of the folder of the run may be a link, nothing below it."""
    flags |= os.O_RDONLY | (0 if place is None else os.O_NOFOLLOW)
    descriptor = os.open(name, flags, dir_fd=place)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _shown(name: str) -> str:
    """A name in one line: a file can have a name with line breaks that looks like other files."""
    return name if name.isprintable() else json.dumps(name)


def _short(line: str) -> str:
    return line if len(line) <= MAX_LINE else line[:MAX_LINE] + "…"
