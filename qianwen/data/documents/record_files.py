"""JSON lines as documents: a whole file, or one of the parts it is divided into.

Plain JSON lines are divided by bytes. Of packed ones, which can only be read from their start, the parts take lines in
turn. Every record is in one part and keeps its number.
"""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qianwen.data.documents.document import MAX_BYTES, WHOLE_FILE, Document, FilePart, Rejected, document_from_record
from qianwen.data.documents.drop_reasons import DropReason

TURN = 256  # lines in a turn


def json_lines(handle: io.BufferedIOBase, name: str, part: FilePart = WHOLE_FILE) -> Iterator[Document | Rejected]:
    """A document for every line of an open file that is not blank; of a part, for its lines in turn."""
    for number, line in enumerate(_lines(handle), start=1):
        if number // TURN % part.n == part.k and (record := _record(line, name, number)):
            yield record


def json_lines_between(file: Path, name: str, part: FilePart) -> Iterator[Document | Rejected]:
    """The lines that begin in the k-th of n equal stretches of bytes."""
    start, end = (_line_start(file, part.size * k // part.n) for k in (part.k, part.k + 1))
    before = _lines_before(file, start)
    with file.open("rb", buffering=0) as raw:
        raw.seek(start)
        section = io.BufferedReader(_Section(raw, end - start), 1 << 16)
        for number, line in enumerate(_lines(section), start=before + 1):
            if record := _record(line, name, number):
                yield record


def _lines(handle: io.BufferedIOBase) -> Iterator[bytes | None]:
    """Lines no longer than MAX_BYTES; None for a longer one, which is skipped without being held."""
    while line := handle.readline(MAX_BYTES + 1):
        if len(line) <= MAX_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(MAX_BYTES)
        yield None


def _record(line: bytes | None, name: str, number: int) -> Document | Rejected | None:
    """The document of a line; None if the line is blank."""
    if line is None:
        return Rejected(name, number, DropReason.LINE_TOO_LONG, f"> {MAX_BYTES // 2**20} MB")
    if not line.strip():
        return None
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        return Rejected(name, number, DropReason.NOT_JSON, str(error))
    return document_from_record(row, name, number)


class _Section(io.RawIOBase):
    """The next `size` bytes of a file."""

    def __init__(self, raw: io.RawIOBase, size: int) -> None:
        self._raw, self._left = raw, size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = self._raw.readinto(memoryview(buffer)[: self._left]) or 0
        self._left -= count
        return count


def _line_start(file: Path, offset: int) -> int:
    """Where the first line that begins at `offset` or later begins."""
    if offset == 0:
        return 0
    with file.open("rb") as handle:
        handle.seek(offset - 1)
        while (piece := handle.readline(1 << 20)) and not piece.endswith(b"\n"):
            pass
        return handle.tell()


def _lines_before(file: Path, offset: int) -> int:
    count = 0
    with file.open("rb", buffering=0) as handle:
        while offset > 0 and (piece := handle.read(min(1 << 20, offset))):
            count += piece.count(b"\n")
            offset -= len(piece)
    return count
