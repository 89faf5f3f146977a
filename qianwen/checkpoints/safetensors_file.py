"""The safetensors container: a JSON header of names, types, shapes and byte ranges, then the bytes.

    length (8 bytes)   header (JSON)   data: the ranges are contiguous, without gap or overlap

A tensor is read with one `readinto` of its range into memory that torch owns. A memory map would save this copy only
for weights that are used in the type of the file. It would also count every page twice while loading, and if another
process truncated the file, the process would end instead of raising an error. The header is checked against the file
before memory is allocated. The meaning of the tensors is in `hf_weights.py`. 8-bit float types are not supported.
"""

import json
from collections.abc import Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.placeholders import check_contents
from qianwen.runtime.translation import tr

HEADER_LIMIT = 16 << 20  # bytes; enough for a hundred thousand tensors
PICKLE_STARTS = (b"PK\x03\x04", b"\x80")  # zip archives of torch.save, and bare pickles

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}


class Entry(NamedTuple):
    """One tensor of a file: `begin` and `end` are byte positions in the file."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class SafetensorsFile:
    """A file with a checked header; `.entries` has its tensors by name. CheckpointError if the file is damaged."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        check_contents(self.path)
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start.startswith(PICKLE_STARTS) and length > HEADER_LIMIT:
                raise self._error(tr("it is a pickle, which can run code when read; convert it to safetensors"))
            if len(start) < 8 or length > min(size - 8, HEADER_LIMIT):
                message = "the header length is {length} bytes, but the file has {size} bytes"
                raise self._error(tr(message, length=length, size=size))
            header = self._parse(file.read(length))
        self.entries = {name: self._entry(name, raw, 8 + length) for name, raw in header.items()}
        self._check_layout(8 + length, size)

    def read(self, name: str) -> Tensor:
        """The tensor in the type of the file, in its own memory."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        with self.path.open("rb") as file:
            file.seek(entry.begin)
            if (
                tensor.numel()
                and file.readinto(tensor.view(-1).view(torch.uint8).numpy().data) != entry.end - entry.begin
            ):
                raise self._truncated(name, entry.end)
        return tensor

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            header = json.loads(data, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self._error(tr("its header is not valid JSON ({error})", error=error)) from error
        if not isinstance(header, dict):
            raise self._error(tr("its header is not a JSON object"))
        header.pop("__metadata__", None)
        return header

    def _entry(self, name: str, raw: Any, data_start: int) -> Entry:
        try:
            dtype, shape, (begin, end) = raw["dtype"], tuple(raw["shape"]), raw["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
                raise ValueError
            known = dtype in DTYPES
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(tr("tensor {name} has no valid dtype, shape and data_offsets", name=name)) from error
        if not known:
            message = "tensor {name} has type {dtype}; supported: {known}"
            raise self._error(tr(message, name=name, dtype=dtype, known=", ".join(DTYPES)))
        if (needed := prod(shape) * DTYPES[dtype].itemsize) != end - begin:
            message = "tensor {name} of shape {shape} needs {needed} bytes, but its range has {found}"
            raise self._error(tr(message, name=name, shape=list(shape), needed=needed, found=end - begin))
        return Entry(DTYPES[dtype], shape, data_start + begin, data_start + end)

    def _check_layout(self, data_start: int, size: int) -> None:
        """Check that each range begins where the previous one ends, and that the last one ends with the file."""
        ordered = sorted(self.entries.items(), key=lambda item: (item[1].begin, item[1].end))
        for name, entry in ordered:
            if entry.end > size:
                raise self._truncated(name, size)
        bounds = [("", data_start), *((name, entry.end) for name, entry in ordered)]
        for (left, end), (right, entry) in zip(bounds, ordered, strict=False):
            if entry.begin != end:
                raise self._error(tr("tensors {left} and {right} overlap or leave a gap", left=left, right=right))
        if bounds[-1][1] != size:
            message = "there are {count} bytes after the last tensor"
            raise self._error(tr(message, count=size - bounds[-1][1]))

    def _truncated(self, name: str, size: int) -> CheckpointError:
        message = "tensor {name} ends at byte {end}, but the file ends at {size}"
        return self._error(tr(message, name=name, end=self.entries[name].end, size=size))

    def _error(self, reason: str) -> CheckpointError:
        message = "{path}: damaged safetensors file: {reason}. Fetch or convert it again."
        return CheckpointError(tr(message, path=self.path, reason=reason))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(pairs)
    if len(unique) != len(pairs):
        raise ValueError(tr("a name appears twice"))
    return unique


def write_safetensors(
    path: str | Path, plans: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], tensors: Iterable[Tensor]
) -> None:
    """Write the tensors of `plans` (name → type and shape); `tensors` yields their data in order, one at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers requires it
    position = 0
    for name, (dtype, shape) in plans.items():
        end = position + prod(shape) * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(shape), "data_offsets": [position, end]}
        position = end
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-len(data) % 8)
    with atomic_file(path) as file:
        file.write(len(data).to_bytes(8, "little") + data)
        for (dtype, shape), tensor in zip(plans.values(), tensors, strict=True):
            assert tensor.shape == shape
            file.write(tensor.detach().to("cpu", dtype).contiguous().view(-1).view(torch.uint8).numpy().data)
