"""Where each document of the token files comes from: a row beside them for every document, in their order.

    origins.parquet     source, url, lang, licence, kind, passed (the filters of the curation it came through)

A row is the document without its text, so a training step can be followed back to the words it learned from
(`trace.py`). Rows are written while documents stream by; memory holds some thousands.
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
ROWS = 8192  # in a row group


class Tokens(NamedTuple):
    """The ids of a document, and the document they are of."""

    ids: Sequence[int] | np.ndarray
    document: Mapping[str, Any]


class OriginsWriter:
    """Writes `path` row by row; without a row there is no file."""

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
    """All rows of a file of origins, in their order."""
    with parquet.ParquetFile(path) as file:
        for batch in file.iter_batches(ROWS):
            yield from batch.to_pylist()


def origins_of(folder: Path, documents: Sequence[int]) -> list[dict[str, str]]:
    """The rows of some documents of the token files in `folder`, in the order asked for. Raises DataError."""
    path = folder / ORIGINS
    if not path.exists():
        message = tr(
            "{folder} has no record of the sources of its documents; write the token files again", folder=folder
        )
        raise DataError(message)
    wanted = np.unique(np.asarray(documents, dtype=np.int64))
    found: dict[int, dict[str, str]] = {}
    with parquet.ParquetFile(path) as file:
        begin = 0
        for group in range(file.num_row_groups):
            end = begin + file.metadata.row_group(group).num_rows
            inside = wanted[np.searchsorted(wanted, begin) : np.searchsorted(wanted, end)]
            if len(inside):
                rows = file.read_row_group(group).take(pa.array(inside - begin)).to_pylist()
                found.update(zip(inside.tolist(), rows, strict=True))
            begin = end
    return [found[document] for document in documents]
