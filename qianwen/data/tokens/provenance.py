"""Where each document of the token files comes from: one row for every document, in the order of the documents.

    origins.parquet     source, url, lang, licence, kind, passed (the filters of the curation that kept it)

A row is the document without its text. With it, a training step can be traced back to its documents (`trace.py`).
Rows are written while the documents are tokenised; at most ROWS of them are in memory.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

ORIGINS = "origins.parquet"
COLUMNS = ("source", "url", "lang", "licence", "kind", "passed")
ROWS = 8192  # rows of a row group


class Tokens(NamedTuple):
    """The token ids of a document, and the document itself."""

    ids: Sequence[int] | np.ndarray
    document: Mapping[str, Any]


class OriginsWriter:
    """Writes `path` row by row. No file is created if no row is added."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._rows: list[Mapping[str, Any]] = []
        self._writer: parquet.ParquetWriter | None = None
        self._schema = pa.schema([(name, pa.string()) for name in COLUMNS])

    def add(self, document: Mapping[str, Any]) -> None:
        self._rows.append({name: document.get(name, "") for name in COLUMNS})
        if len(self._rows) == ROWS:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        if self._writer:
            self._writer.close()

    def _flush(self) -> None:
        self._writer = self._writer or parquet.ParquetWriter(self._path, self._schema, compression="zstd")
        self._writer.write_table(pa.Table.from_pylist(self._rows, schema=self._schema))
        self._rows = []


def origins_in(path: Path) -> Iterator[dict[str, str]]:
    """All rows of an origins file, in order."""
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            yield from batch.to_pylist()


def origins_of(folder: Path, documents: Sequence[int]) -> list[dict[str, str]]:
    """The rows of these documents of the token files in `folder`, in the order of `documents`.

    Only the row groups that contain them are read. Raises DataError when there is no origins file.
    """
    path = folder / ORIGINS
    if not path.exists():
        message = tr(
            "{folder} has no record of the sources of its documents; write the token files again", folder=folder
        )
        raise DataError(message)
    numbers = np.unique(np.asarray(documents, dtype=np.int64))
    origins: dict[int, dict[str, str]] = {}
    with parquet.ParquetFile(path) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            inside = numbers[np.searchsorted(numbers, begin) : np.searchsorted(numbers, end)]
            if len(inside):
                rows = file.read_row_group(group).take(pa.array(inside - begin)).to_pylist()
                origins.update(zip(inside.tolist(), rows, strict=True))
            begin = end
    return [origins[document] for document in documents]
