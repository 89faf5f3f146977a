"""The files of a benchmark, in the forms in which they are published: folders, zip and tar archives, compressed files.

    find            a benchmark's file or folder, by its published names, under the folder that the user gave
    members         the files of a folder or archive whose names match a pattern, as text
    read_text       the text of one file
    csv_rows        the rows of a CSV text
    json_rows       the objects of a file of JSON lines
    parquet_rows    the rows of a Parquet file, as on the hub

Nothing is downloaded here; `hub_data.py` does that. Nothing is skipped either: a file that cannot be read, has no rows
or lacks a column raises a DataError, which names the file and what was expected. A benchmark with fewer questions
would give another number, and nobody would notice.
"""

import csv
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import IO, Any, cast

import zstandard

from qianwen.runtime.errors import DataError
from qianwen.runtime.files import open_bytes, read_jsonl
from qianwen.runtime.translation import tr

COMPRESSED = (".gz", ".zst", ".xz", ".bz2")
UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
              zstandard.ZstdError)  # fmt: skip


def find(data: Path, names: Sequence[str], inside: Sequence[str] = ()) -> Path:
    """The benchmark's file or folder: `data` itself if it is a file, else the first of `names` in the folder `data`.

    `names` are paths below `data` and may have wildcards (`HumanEval*.jsonl`); each may also be compressed (`.gz`).
    `inside` are paths of files that exist below `data` if `data` is itself the benchmark's folder.
    """
    if data.is_file():
        return data
    if not data.is_dir():
        raise DataError(tr("{path}: no such file or folder", path=data))
    for name in names:
        for suffix in ("", *COMPRESSED):
            if paths := sorted(data.glob(name + suffix)):
                return paths[0]
    if any(next(data.glob(name), None) for name in inside):
        return data
    expected = ", ".join((*names, *inside))
    raise DataError(tr("{path} contains none of these: {expected}", path=data, expected=expected))


def members(path: Path, pattern: str) -> Iterator[tuple[str, str]]:
    """Name and text of each file whose path ends as `pattern` (`test/*_test.csv`), in the order of their names.

    `path` is a folder, a zip archive or a tar archive. There may be no such file; the caller knows what that means.
    """
    for name, data in _files(path, pattern):
        yield name, _decode(path / name, data)


def read_text(path: Path) -> str:
    """The text of a file, which may be compressed. A byte order mark is not part of it."""
    try:
        with open_bytes(path) as file:
            return _decode(path, file.read())
    except UNREADABLE as error:
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error


def csv_rows(name: str, text: str, columns: Sequence[str], *, has_header: bool = True) -> list[dict[str, str]]:
    """The rows of a CSV text as {column: value}; the file's `name` is for messages.

    With a header all `columns` must be in it, and further ones stay in the rows. Without, `columns` are all there are.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = next(reader, []) if has_header else list(columns)
        _require(name, header, columns)
        rows = []
        for row in reader:
            if len(row) != len(header):
                message = "{path}, line {number}: {count} columns, but there must be {expected}: {columns}"
                values = {"count": len(row), "expected": len(header), "columns": ", ".join(header)}
                raise DataError(tr(message, path=name, number=reader.line_num, **values))
            rows.append(dict(zip(header, row, strict=True)))
    except csv.Error as error:
        raise DataError(tr("{path}, line {number}: {error}", path=name, number=reader.line_num, error=error)) from error
    return _not_empty(name, rows)


def json_rows(path: Path, fields: Mapping[str, type | tuple[type, ...]]) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines, compressed or not; each must have `fields`, with values of these types."""
    rows = _not_empty(path, list(read_jsonl(path)))
    for number, row in enumerate(rows, start=1):
        for name, kind in fields.items():
            if not isinstance(row.get(name), kind):
                message = "{path}, row {number}: the field `{name}` is missing or has the wrong type"
                raise DataError(tr(message, path=path, number=number, name=name))
    return rows


def parquet_rows(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a Parquet file, with these columns only."""
    import pyarrow as pa
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            _require(path, file.schema_arrow.names, columns)
            rows = file.read(columns=list(columns), use_threads=False).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error
    return _not_empty(path, rows)


def _files(path: Path, pattern: str) -> Iterator[tuple[str, bytes]]:
    """Name and plain bytes of each file of a folder or archive whose name matches, sorted by name."""
    try:
        if path.is_dir():
            for name, file in sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*")):
                if _is_match(name, pattern) and file.is_file():
                    with open_bytes(file) as opened:
                        yield name, opened.read()
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                names = sorted(name for name in archive.namelist() if _is_match(name, pattern))
                yield from ((name, archive.read(name)) for name in names)
        elif tarfile.is_tarfile(path):
            with tarfile.open(path) as archive:
                names = sorted(entry.name for entry in archive if entry.isfile() and _is_match(entry.name, pattern))
                yield from ((name, cast(IO[bytes], archive.extractfile(name)).read()) for name in names)
        else:
            raise DataError(tr("{path} is neither a folder nor a zip or tar archive", path=path))
    except UNREADABLE as error:
        raise DataError(tr("{path} could not be read: {error}", path=path, error=error)) from error


def _decode(path: Path, data: bytes) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = tr("not UTF-8 (byte {byte})", byte=error.start + 1)
        raise DataError(tr("{path} could not be read: {error}", path=path, error=reason)) from error


def _is_match(name: str, pattern: str) -> bool:
    """Compressed files match by their plain name; the copies that macOS adds to archives (`._x.csv`) never match."""
    plain = PurePosixPath(name[: -len(suffix)] if (suffix := PurePosixPath(name).suffix) in COMPRESSED else name)
    return plain.match(pattern) and not plain.name.startswith("._")


def _require(path: str | Path, header: Sequence[str], columns: Sequence[str]) -> None:
    if missing := [column for column in columns if column not in header]:
        values = {"missing": ", ".join(missing), "columns": ", ".join(header)}
        raise DataError(tr("{path} lacks the columns {missing}; it has {columns}", path=path, **values))


def _not_empty(path: str | Path, rows: list[Any]) -> list[Any]:
    if not rows:
        raise DataError(tr("{path} contains no rows", path=path))
    return rows
