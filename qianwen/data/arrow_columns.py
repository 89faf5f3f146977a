"""Arrow columns from NumPy arrays and texts, and back, without pandas.

If pandas is installed, pyarrow imports it as soon as it converts from or to a list or an array. This takes a third of
a second in every process, and nothing here uses pandas.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet


def from_numbers(numbers: np.ndarray) -> pa.Array:
    """A column of numbers [N], of the same type."""
    numbers = np.ascontiguousarray(numbers)
    return pa.Array.from_buffers(pa.from_numpy_dtype(numbers.dtype), len(numbers), [None, pa.py_buffer(numbers)])


def from_texts(texts: Sequence[str]) -> pa.Array:
    """A column of texts. Raises UnicodeEncodeError for half a surrogate pair, as pyarrow does."""
    joined = "".join(texts)
    data = joined.encode("utf-8")
    if len(data) == len(joined):  # ASCII: characters are bytes
        sizes = np.fromiter(map(len, texts), dtype=np.int32, count=len(texts))
    else:
        sizes = np.fromiter((len(text.encode("utf-8")) for text in texts), dtype=np.int32, count=len(texts))
    ends = np.concatenate([np.zeros(1, dtype=np.int32), np.cumsum(sizes, dtype=np.int32)])
    return pa.StringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(data))


def values(column: pa.ChunkedArray) -> np.ndarray:
    """The values of a column of numbers without nulls [N]."""
    if not column.num_chunks:
        return np.zeros(0, dtype=column.type.to_pandas_dtype())
    return np.concatenate([np.from_dlpack(chunk) for chunk in column.chunks])


def read(path: Path, names: Sequence[str]) -> pa.Table:
    """Some columns of a Parquet file; `parquet.read_table` would look for a data set of many files first."""
    with parquet.ParquetFile(path) as file:
        return file.read(columns=list(names), use_threads=False)
