"""The input of a curation, cut into parts that are each read by themselves: the unit of work and of resuming.

The cut is a function of the files alone (names and sizes), never of the machine, so the same input gives the same parts
and the same shards on two cores and on a cluster. Large files are sliced: plain JSON lines by bytes; packed ones, which
can only be read from their start, and Parquet, WARC by their lines, row groups and records taken in turn.
"""

import io
import math
import os
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import zstandard

from qianwen.data import worker_pool
from qianwen.data.documents.extract import html_file, warc_file
from qianwen.data.documents.language_id import BY_EXTENSION, code_language
from qianwen.data.documents.readers import (
    CARD,
    KINDS,
    PACKED,
    Document,
    Rejected,
    document_of,
    lines_of,
    parsed,
    plain_file,
    read_file,
)
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.files import open_bytes
from qianwen.runtime.translation import tr

SMALLEST, LARGEST, PARTS = 8 * 2**20, 256 * 2**20, 64  # bytes of a part of plain JSON lines, and how many to aim at
MAX_SLICES = 16  # of a file that every slice reads from its start
TURN = 256  # lines in a turn
JSON_LINES, HTML, WARC = (".jsonl", ".ndjson"), (".html", ".htm", ".xhtml"), (".warc", ".wet", ".wat")


class Slice(NamedTuple):
    """The k-th of n slices of a file; `stamp` is when it was last changed."""

    path: str
    name: str
    size: int
    stamp: int
    k: int
    n: int


def plan(inputs: list[str]) -> list[list[Slice]]:
    """The parts of the input. Raises DataError when there is nothing at a path."""
    parts: list[list[Slice]] = []
    small: list[Slice] = []
    room = 0
    files = list(_listed(inputs))
    size = min(max(sum(found.size * _weight(found) for found in files) / PARTS, SMALLEST), LARGEST)
    for found in files:
        number = _slices(found, size)
        stamp = 0 if worker_pool.is_remote(found.path) else os.stat(found.path).st_mtime_ns
        slices = [Slice(found.path, found.name, found.size, stamp, k, number) for k in range(number)]
        if number > 1:
            parts += [[one] for one in slices]
            continue
        if small and (room + found.size > size / 2 or len(small) == 2000):
            parts.append(small)
            small, room = [], 0
        small += slices
        room += found.size
    return [*parts, small] if small else parts


def _listed(inputs: list[str]) -> Iterator[worker_pool.Found]:
    """The files of all inputs; of several, each file's name begins with its input's."""
    for path in inputs:
        base = path.rstrip("/").rpartition("/")[2]
        here = worker_pool.listing(path)
        names = {found.name for found in here}
        for found in here:
            folder = found.name.rpartition("/")[0]
            file = found.name.rpartition("/")[2]
            with_manifest = f"{folder}/{MANIFEST}".lstrip("/") in names
            if file != MANIFEST and not (file == CARD and with_manifest):
                inside = len(inputs) > 1 and found.name != base
                yield found._replace(name=f"{base}/{found.name}") if inside else found


def _slices(found: worker_pool.Found, size: float) -> int:
    """How many parts of `size` a file gives. A remote one is fetched whole, so it is one."""
    suffix, packed = _kind_of(found.name)
    if worker_pool.is_remote(found.path) or not (suffix in JSON_LINES or suffix in (".parquet", *WARC)):
        return 1
    number = max(math.ceil(found.size * _weight(found) / size), 1)
    return number if suffix in JSON_LINES and not packed else min(number, MAX_SLICES)


def _weight(found: worker_pool.Found) -> float:
    """Bytes of text in a byte of a file, roughly."""
    suffix, packed = _kind_of(found.name)
    return {".parquet": 2.0, ".html": 0.5, ".htm": 0.5}.get(suffix, 0.5 if suffix in WARC else 1.0) * (
        4 if packed else 1
    )


def _kind_of(name: str) -> tuple[str, str]:
    """`(".jsonl", ".zst")` of `a.jsonl.zst`."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    return (suffixes[-1] if suffixes else ""), packed


def read_part(slices: list[Slice], scratch: Path, blocked: Collection[str]) -> Iterator[Document | Rejected]:
    """The documents of a part; remote files pass through `scratch`, and hosts in `blocked` are left out."""
    for one in slices:
        with worker_pool.local_copy(one.path, scratch) as file:
            try:
                yield from _read(file, one, blocked)
            except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
                yield Rejected(one.name, 0, tr("unreadable"), str(error))


def _read(file: Path, one: Slice, blocked: Collection[str]) -> Iterator[Document | Rejected]:
    suffix, packed = _kind_of(one.name)
    if suffix in JSON_LINES:
        yield from (_in_turn(file, one) if packed else _section(file, one))
    elif suffix == ".parquet" and not packed:
        yield from _row_groups(file, one)
    elif suffix in WARC:
        yield from warc_file(file, one.name, slice_of=(one.k, one.n), blocked=blocked)
    elif suffix in HTML and not packed:
        yield html_file(file, one.name)
    elif suffix not in KINDS and (suffix in BY_EXTENSION or code_language(one.name)):
        yield from plain_file(file, one.name, "code")
    else:
        yield from read_file(file, one.name)


def _in_turn(file: Path, one: Slice) -> Iterator[Document | Rejected]:
    with open_bytes(file) as handle:
        for number, line in enumerate(lines_of(handle), start=1):
            if number // TURN % one.n == one.k:
                if isinstance(line, str):
                    yield Rejected(one.name, number, line)
                elif line.strip():
                    yield parsed(line, one.name, number)


def _section(file: Path, one: Slice) -> Iterator[Document | Rejected]:
    """The lines that begin between two bytes."""
    start, end = (_line_start(file, one.size * k // one.n) for k in (one.k, one.k + 1))
    before = _lines_before(file, start)
    with file.open("rb", buffering=0) as raw:
        raw.seek(start)
        section = io.BufferedReader(_Section(raw, end - start), 1 << 16)
        for number, line in enumerate(lines_of(section), start=before + 1):
            if isinstance(line, str):
                yield Rejected(one.name, number, line)
            elif line.strip():
                yield parsed(line, one.name, number)


class _Section(io.RawIOBase):
    """The next `left` bytes of a file."""

    def __init__(self, raw: io.RawIOBase, left: int) -> None:
        self._raw, self._left = raw, left

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


def _row_groups(file: Path, one: Slice) -> Iterator[Document | Rejected]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            number = 0
            for group in range(opened.num_row_groups):
                rows = opened.metadata.row_group(group).num_rows
                if group % one.n == one.k:
                    for batch in opened.iter_batches(batch_size=256, row_groups=[group]):
                        for row in batch.to_pylist():
                            number += 1
                            yield document_of(row, one.name, number)
                else:
                    number += rows
    except pyarrow.ArrowException as error:
        yield Rejected(one.name, 0, tr("unreadable"), str(error))
