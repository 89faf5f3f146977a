"""Parquet as documents: only the columns that a document has are read, whatever else is in the file.

A column that is not read is never converted, so its values may be such as Python has no type for (times in
nanoseconds, the year 200,000). What the other columns hold is turned into text by Arrow; a column of lists or structs
is taken for absent. Texts may be strings, dictionaries of strings, or bytes in UTF-8.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qianwen.data.documents.document import WHOLE_FILE, Document, FilePart, Rejected, document_from_record
from qianwen.data.documents.drop_reasons import DropReason

TEXTS = ("text", "content")  # the first of them that a file has
FIELDS = ("source", "lang", "licence", "license", "kind", "url", "passed")
BATCH = 256  # rows


def parquet_file(file: Path, name: str, *, part: FilePart = WHOLE_FILE) -> Iterator[Document | Rejected]:
    """A document for every row; of a part, for the rows of its row groups in turn."""
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(file) as opened:
            yield from _documents(opened, name, part)
    except pyarrow.ArrowException as error:
        yield Rejected(name, 0, DropReason.UNREADABLE, str(error))


def _documents(opened: Any, name: str, part: FilePart) -> Iterator[Document | Rejected]:
    import pyarrow

    schema = opened.schema_arrow
    text = next((column for column in TEXTS if column in schema.names), "")
    if part.k == 0 and not text:
        yield Rejected(name, 0, DropReason.NO_TEXT_FIELD, ", ".join(schema.names))
    elif part.k == 0 and not opened.metadata.num_rows:
        yield Rejected(name, 0, DropReason.EMPTY)
    if not text:
        return
    columns = [text, *(column for column in FIELDS if column in schema.names)]
    number = 0
    for group in range(opened.num_row_groups):
        first, number = number, number + opened.metadata.row_group(group).num_rows
        if group % part.n != part.k:
            continue
        try:
            for batch in opened.iter_batches(batch_size=BATCH, row_groups=[group], columns=columns):
                for row, record in enumerate(_records(batch, text), start=first + 1):
                    yield document_from_record(record, name, row)
                first += len(batch)
        except (pyarrow.ArrowException, OSError) as error:  # this row group is damaged; the next may be sound
            yield Rejected(name, first + 1, DropReason.UNREADABLE, str(error))


def _records(batch: Any, text: str) -> Iterator[dict[str, Any]]:
    """The rows of a batch as records of texts; of columns with the same name, the first counts."""
    fields: dict[str, list[Any]] = {}
    for column, values in zip(batch.schema.names, batch.columns, strict=True):
        if column not in fields:
            fields[column] = _texts(values, is_text=column == text)
    names = list(fields)
    return (dict(zip(names, row, strict=True)) for row in zip(*fields.values(), strict=True))


def _texts(column: Any, *, is_text: bool) -> list[str | None]:
    """The values of a column as texts. None for a missing one, and for all of a column that is no text.

    The text itself must be a string; a source may be a number or a date.
    """
    import pyarrow

    if isinstance(column, pyarrow.ExtensionArray):
        column = column.storage
    if isinstance(column.type, pyarrow.DictionaryType):
        column = column.dictionary_decode()
    kind = str(column.type)
    if pyarrow.types.is_nested(column.type) or (is_text and "string" not in kind and "binary" not in kind):
        return [None] * len(column)
    if "binary" in kind:
        return [_text(value) for value in column.to_pylist()]
    try:
        return column.cast(pyarrow.large_string()).to_pylist()
    except UnicodeDecodeError:  # a string column whose bytes are not UTF-8
        return [_text(value) for value in column.cast(pyarrow.large_binary()).to_pylist()]
    except pyarrow.ArrowException:  # a value that Arrow cannot write as text
        return [None] * len(column)


def _text(value: bytes | None) -> str | None:
    """Bytes as text; what is not UTF-8 is no text."""
    try:
        return None if value is None else value.decode("utf-8")
    except UnicodeDecodeError:
        return None
