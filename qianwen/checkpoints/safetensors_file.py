"""The safetensors container: a JSON header of names, types, shapes and byte ranges, then the bytes.

    length (8 bytes)   header (JSON)   data: the ranges follow one another without gap or overlap

Reading a tensor is one `readinto` of its range into memory that torch owns. A memory map would save that copy only for
weights used in the file's own type; it would count every page twice on the way, and a file cut short by someone else
would end the process instead of raising an error.
The whole header is checked against the file before anything is allocated. Not here: which tensor means what
(`hf_weights.py`), and the 8-bit float types.
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
from qianwen.runtime.translation import tr

HEADER_LIMIT = 16 << 20  # bytes; a hundred thousand tensors fit
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
    """A file whose header has been checked; `.entries` by name. Raises CheckpointError for anything unsound."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        size = self.path.stat().st_size
        with self.path.open("rb") as file:
            start = file.read(8)
            length = int.from_bytes(start, "little")
            if start.startswith(PICKLE_STARTS) and length > HEADER_LIMIT:
                raise self._error(tr("it is a pickle, which can run code when read; convert it to safetensors"))
            if len(start) < 8 or length > min(size - 8, HEADER_LIMIT):
                raise self._error(tr("a header of {length} bytes in a file of {size}", length=length, size=size))
            header = self._parse(file.read(length))
        self.entries = {name: self._entry(name, raw, 8 + length) for name, raw in header.items()}
        self._check_layout(8 + length, size)

    def read(self, name: str) -> Tensor:
        """The tensor in its own type, in memory of its own."""
        entry = self.entries[name]
        tensor = torch.empty(entry.shape, dtype=entry.dtype)
        with self.path.open("rb") as file:
            file.seek(entry.begin)
            if (
                tensor.numel()
                and file.readinto(tensor.view(-1).view(torch.uint8).numpy().data) != entry.end - entry.begin
            ):
                raise self._torn(name, entry.end)
        return tensor

    def _parse(self, data: bytes) -> dict[str, Any]:
        try:
            header = json.loads(data, object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise self._error(tr("its header is no JSON ({error})", error=error)) from error
        if not isinstance(header, dict):
            raise self._error(tr("its header is no JSON object"))
        header.pop("__metadata__", None)
        return header

    def _entry(self, name: str, raw: Any, data_start: int) -> Entry:
        try:
            dtype, shape, (begin, end) = raw["dtype"], tuple(raw["shape"]), raw["data_offsets"]
            if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
                raise ValueError
            known = dtype in DTYPES
        except (KeyError, TypeError, ValueError) as error:
            raise self._error(tr("tensor {name} has no sound dtype, shape and data_offsets", name=name)) from error
        if not known:
            message = "tensor {name} is stored as {dtype}; the types read are {known}"
            raise self._error(tr(message, name=name, dtype=dtype, known=", ".join(DTYPES)))
        if (needed := prod(shape) * DTYPES[dtype].itemsize) != end - begin:
            message = "tensor {name} of shape {shape} needs {needed} bytes, its range has {found}"
            raise self._error(tr(message, name=name, shape=list(shape), needed=needed, found=end - begin))
        return Entry(DTYPES[dtype], shape, data_start + begin, data_start + end)

    def _check_layout(self, data_start: int, size: int) -> None:
        """Every range begins where the one before it ends, and the last one ends with the file."""
        ordered = sorted(self.entries.items(), key=lambda item: (item[1].begin, item[1].end))
        for name, entry in ordered:
            if entry.end > size:
                raise self._torn(name, size)
        bounds = [("", data_start), *((name, entry.end) for name, entry in ordered)]
        for (left, end), (right, entry) in zip(bounds, ordered, strict=False):
            if entry.begin != end:
                raise self._error(tr("tensors {left} and {right} overlap or leave a gap", left=left, right=right))
        if bounds[-1][1] != size:
            message = "{count} bytes follow the last tensor"
            raise self._error(tr(message, count=size - bounds[-1][1]))

    def _torn(self, name: str, size: int) -> CheckpointError:
        message = "tensor {name} reaches to byte {end}, the file ends at {size}"
        return self._error(tr(message, name=name, end=self.entries[name].end, size=size))

    def _error(self, reason: str) -> CheckpointError:
        message = "{path}: not a sound safetensors file: {reason}. Fetch or convert it again."
        return CheckpointError(tr(message, path=self.path, reason=reason))


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError(tr("a name appears twice"))
    return found


def write_safetensors(
    path: str | Path, plans: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], tensors: Iterable[Tensor]
) -> None:
    """Write `plans` (name → type and shape); `tensors` yields their data in order and is asked for one at a time."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}  # transformers insists on it
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
