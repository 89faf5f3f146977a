"""The input of a curation, split into parts that are read independently: the unit of work and of resuming.

The split depends only on the names and sizes of the files, not on the machine, so the same input gives the same parts
and the same shards on two cores and on a cluster. Large files are sliced: plain JSON lines by bytes; packed ones, which
can only be read from their start, and Parquet, WARC by their lines, row groups and records taken in turn.
"""

import math
import os
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from qianwen.data.documents.document import Document, FilePart, Rejected
from qianwen.data.documents.readers import JSON_LINES, WARC_NAMES, corpus_files, file_kind, read_file
from qianwen.data.file_listing import ListedFile, is_remote, local_copy

SMALLEST, LARGEST, PARTS = 8 * 2**20, 256 * 2**20, 64  # bytes of a part of plain JSON lines, and how many to aim at
MAX_SLICES = 16  # of a file that every slice reads from its start


@dataclass(frozen=True)
class Slice:
    """A part of a file; `stamp` is when the file was last changed."""

    path: str
    name: str
    stamp: int
    part: FilePart


def plan(inputs: list[str]) -> list[list[Slice]]:
    """The parts of the input. Raises DataError when there is nothing at a path."""
    parts: list[list[Slice]] = []
    small: list[Slice] = []
    room = 0
    files = list(_input_files(inputs))
    size = min(max(sum(file.size * _weight(file) for file in files) / PARTS, SMALLEST), LARGEST)
    for file in files:
        number = _num_slices(file, size)
        stamp = 0 if is_remote(file.path) else os.stat(file.path).st_mtime_ns
        slices = [Slice(file.path, file.name, stamp, FilePart(k, number, file.size)) for k in range(number)]
        if number > 1:
            parts += [[piece] for piece in slices]
            continue
        if small and (room + file.size > size / 2 or len(small) == 2000):
            parts.append(small)
            small, room = [], 0
        small += slices
        room += file.size
    return [*parts, small] if small else parts


def _input_files(inputs: list[str]) -> Iterator[ListedFile]:
    """The files of all inputs; of several, each file's name begins with its input's."""
    for path in inputs:
        base = path.rstrip("/").rpartition("/")[2]
        for file in corpus_files(path):
            is_inside = len(inputs) > 1 and file.name != base
            yield replace(file, name=f"{base}/{file.name}") if is_inside else file


def _num_slices(file: ListedFile, size: float) -> int:
    """How many parts of `size` a file gives. A remote one is fetched whole, so it is one."""
    suffix, packed = file_kind(file.name)
    if is_remote(file.path) or not (suffix in JSON_LINES or suffix in (".parquet", *WARC_NAMES)):
        return 1
    number = max(math.ceil(file.size * _weight(file) / size), 1)
    return number if suffix in JSON_LINES and not packed else min(number, MAX_SLICES)


def _weight(file: ListedFile) -> float:
    """Bytes of text in a byte of a file, roughly."""
    suffix, packed = file_kind(file.name)
    return {".parquet": 2.0, ".html": 0.5, ".htm": 0.5}.get(suffix, 0.5 if suffix in WARC_NAMES else 1.0) * (
        4 if packed else 1
    )


def read_part(slices: Sequence[Slice], scratch: Path, blocked: Collection[str]) -> Iterator[Document | Rejected]:
    """The documents of a part; remote files pass through `scratch`, and hosts in `blocked` are left out."""
    for piece in slices:
        with local_copy(piece.path, scratch) as file:
            yield from read_file(file, piece.name, part=piece.part, blocked=blocked)
