"""The GGUF container: typed metadata and block-quantised tensors in one file, read with a memory map.

    "GGUF" version num_tensors num_entries
    entries   key, type, value                             a value may be an array of numbers or strings
    tensors   name, dimensions (innermost first), type, offset
    padding   to `general.alignment`, then the data; every offset is relative to this point and aligned

The header is checked before it is used: each length against the bytes left in the file, each tensor against the end of
the file and its neighbours. So a malicious file causes an error and no large allocation. The meaning of tensors is in
`gguf/network.py`, reading and writing blocks of weights in `gguf_blocks.py` and `gguf_encoding.py`, models in several
files are in `parts.py`. Big-endian files are not supported.
"""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from qianwen.kernels.gguf_blocks import FORMATS, Bytes, dequantize
from qianwen.kernels.gguf_encoding import CHUNK_WEIGHTS, quantize
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_file
from qianwen.runtime.placeholders import check_contents
from qianwen.runtime.translation import tr

MAGIC = b"GGUF"
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

# ggml's type numbers of metadata values → NumPy types
SCALARS = {0: "u1", 1: "i1", 2: "u2", 3: "i2", 4: "u4", 5: "i4", 6: "f4", 7: "?", 10: "u8", 11: "i8", 12: "f8"}
STRING, ARRAY = 8, 9
TYPE_NAMES = {form.code: name for name, form in FORMATS.items()}


@dataclass(frozen=True)
class GgufTensor:
    """A tensor in the format of the file: `raw` is uint8 [rows, bytes per row], a view of the memory map."""

    name: str
    type: str  # a key of `FORMATS`
    shape: tuple[int, ...]  # in the order of torch, rows first
    raw: Bytes

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights as a tensor [*shape] that owns its memory."""
        out = torch.empty(self.shape, dtype=dtype)
        flat, start = out.view(-1), 0
        for piece in dequantize(self.raw, self.type):
            end = start + len(piece)
            if dtype == torch.float32:
                flat.numpy()[start:end] = piece  # NumPy, because torch would start its threads for each piece
            else:
                flat[start:end] = torch.from_numpy(piece)
            start = end
        return out

    def take(self, rows: slice | np.ndarray) -> "GgufTensor":
        """A tensor of these rows, still packed; this is possible because no block spans two rows."""
        raw = self.raw[rows] if len(self.shape) > 1 else self.raw.reshape(self.shape[0], -1)[rows].reshape(1, -1)
        count = len(raw) if len(self.shape) > 1 else raw.size // FORMATS[self.type].bytes
        return replace(self, shape=(count, *self.shape[1:]), raw=raw)


class _Cursor:
    """Reads little-endian values one after another, and raises CheckpointError at the end of `data`."""

    def __init__(self, data: memoryview, path: Path) -> None:
        self.data, self.path, self.position = data, path, 0

    def bytes(self, count: int) -> memoryview:
        end = self.position + count
        if end > len(self.data):
            message = "{path}: the header needs bytes up to {end}, but the file ends at {size}; fetch it again"
            raise CheckpointError(tr(message, path=self.path, end=end, size=len(self.data)))
        view = self.data[self.position : end]
        self.position = end
        return view

    def number(self, form: str) -> int:
        return struct.unpack("<" + form, self.bytes(struct.calcsize(form)))[0]

    def strings(self, count: int) -> Iterator[str]:
        for _ in range(count):  # hundreds of thousands in a vocabulary, so `int.from_bytes` instead of `number`
            length = int.from_bytes(self.bytes(8), "little")
            # The text of a token may have any bytes; surrogateescape keeps those that are not UTF-8.
            yield str(self.bytes(length), "utf-8", "surrogateescape")

    def string(self) -> str:
        return next(self.strings(1))

    def value(self, type: int) -> Any:
        """A metadata value: str, number, list of str, or an array of numbers that is a view of the file."""
        if type == STRING:
            return self.string()
        if type in SCALARS:
            return self.numbers(SCALARS[type], 1)[0].item()
        if type == ARRAY:
            element, count = self.number("I"), self.number("Q")
            if element == STRING:
                return list(self.strings(count))
            if element in SCALARS:
                return self.numbers(SCALARS[element], count)
        message = "{path}: metadata has the unknown type {type}; the file is damaged or newer than this program"
        raise CheckpointError(tr(message, path=self.path, type=type))

    def numbers(self, form: str, count: int) -> np.ndarray:
        dtype = np.dtype(form).newbyteorder("<")
        return np.frombuffer(self.bytes(count * dtype.itemsize), dtype)


class GgufFile:
    """A GGUF file, version 2 or 3: `.metadata` and `.tensors`, both by name.

    Raises CheckpointError if the file is damaged or has an unknown format.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file() or self.path.stat().st_size < len(MAGIC):
            raise CheckpointError(tr("{path}: the GGUF file does not exist or is empty", path=self.path))
        check_contents(self.path)
        data = np.memmap(self.path, np.uint8, mode="r")
        cursor = _Cursor(data.data, self.path)
        num_tensors, num_entries = self._counts(cursor)
        self.metadata: dict[str, Any] = {}
        for _ in range(num_entries):
            key, type = cursor.string(), cursor.number("I")
            if key in self.metadata:
                raise CheckpointError(tr("{path}: metadata {key} appears twice", path=self.path, key=key))
            self.metadata[key] = cursor.value(type)
        headers = [_TensorHeader.read(cursor) for _ in range(num_tensors)]
        start = _aligned(cursor.position, self._alignment())
        self.tensors = {header.name: self._tensor(header, data, start) for header in headers}
        self._check_layout(headers)

    def number(self, key: str, default: float | None = None) -> Any:
        """A number of the metadata. CheckpointError if it is missing without a default, or not a number."""
        value = self.metadata.get(key, default)
        if not isinstance(value, (int, float)):
            message = "{path}: metadata {key} is {value!r}, but must be a number"
            raise CheckpointError(tr(message, path=self.path, key=key, value=value))
        # Restore the decimal number that was rounded to float32: 1e-06, not 9.999999974752427e-07.
        return float(f"{value:.7g}") if isinstance(value, float) else value

    def _counts(self, cursor: _Cursor) -> tuple[int, int]:
        if bytes(cursor.bytes(4)) != MAGIC:
            raise CheckpointError(tr("{path}: not a GGUF file: its first four bytes are not GGUF", path=self.path))
        version = cursor.number("I")
        if version not in (2, 3):
            message = "{path}: GGUF version {version} is not supported, only 2 and 3 (little-endian)"
            raise CheckpointError(tr(message, path=self.path, version=version))
        return cursor.number("Q"), cursor.number("Q")

    def _alignment(self) -> int:
        alignment = self.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment not in (1 << power for power in range(17)):
            message = "{path}: general.alignment is {alignment!r}, but must be a power of two up to 65536"
            raise CheckpointError(tr(message, path=self.path, alignment=alignment))
        return alignment

    def _tensor(self, header: "_TensorHeader", data: np.ndarray, start: int) -> GgufTensor:
        form, rows = FORMATS[header.type], prod(header.shape[:-1])
        begin, end = start + header.offset, start + header.offset + header.size
        if header.offset % self._alignment() or end > len(data):
            message = "{path}: tensor {name} ends at byte {end}, but the file ends at {size}; fetch it again"
            raise CheckpointError(tr(message, path=self.path, name=header.name, end=end, size=len(data)))
        raw = data[begin:end].view(np.ndarray).reshape(rows, header.shape[-1] // form.weights * form.bytes)
        return GgufTensor(header.name, header.type, header.shape, raw)

    def _check_layout(self, headers: list["_TensorHeader"]) -> None:
        if len(self.tensors) != len(headers):
            raise CheckpointError(tr("{path}: a tensor name appears twice", path=self.path))
        for left, right in pairwise(sorted(headers, key=lambda header: header.offset)):
            if left.offset + left.size > right.offset:
                message = "{path}: tensors {left} and {right} overlap"
                raise CheckpointError(tr(message, path=self.path, left=left.name, right=right.name))


class _TensorHeader(NamedTuple):
    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size: int

    @classmethod
    def read(cls, cursor: _Cursor) -> "_TensorHeader":
        name, num_dimensions = cursor.string(), cursor.number("I")
        if not 1 <= num_dimensions <= MAX_DIMENSIONS:
            message = "{path}: tensor {name} has {count} dimensions, but must have 1 to 4"
            raise CheckpointError(tr(message, path=cursor.path, name=name, count=num_dimensions))
        shape = tuple(cursor.number("Q") for _ in range(num_dimensions))[::-1]
        code, offset = cursor.number("I"), cursor.number("Q")
        if code not in TYPE_NAMES:
            message = "{path}: tensor {name} has ggml type {code}; supported: {known}"
            raise CheckpointError(tr(message, path=cursor.path, name=name, code=code, known=", ".join(FORMATS)))
        form = FORMATS[TYPE_NAMES[code]]
        if 0 in shape or shape[-1] % form.weights:
            message = "{path}: tensor {name} has shape {shape}, but its rows must be multiples of {weights} weights"
            raise CheckpointError(tr(message, path=cursor.path, name=name, shape=list(shape), weights=form.weights))
        return cls(name, shape, TYPE_NAMES[code], offset, prod(shape) // form.weights * form.bytes)


def _aligned(position: int, alignment: int) -> int:
    return -(-position // alignment) * alignment


# ---- writing ----------------------------------------------------------------------------------------------------


class TensorPlan(NamedTuple):
    """Name, type and shape of a tensor to write; the header needs them before the data."""

    name: str
    type: str
    shape: tuple[int, ...]
    importance: Tensor | None = None  # of its inputs, [shape[-1]], see `gguf_encoding.py`

    @property
    def size(self) -> int:
        form = FORMATS[self.type]
        return prod(self.shape) // form.weights * form.bytes


def write_gguf(path: str | Path, metadata: dict[str, Any], plans: list[TensorPlan], tensors: Iterable[Tensor]) -> None:
    """Write a version 3 file. `tensors` yields the data of `plans`, in order, one at a time."""
    with atomic_file(path) as file:
        file.write(MAGIC + struct.pack("<IQQ", 3, len(plans), len(metadata)))
        for key, value in metadata.items():
            file.write(_packed_string(key) + _packed_value(value))
        offset = 0
        for plan in plans:
            file.write(_packed_string(plan.name) + struct.pack("<I", len(plan.shape)))
            file.write(struct.pack(f"<{len(plan.shape)}Q", *plan.shape[::-1]))
            file.write(struct.pack("<IQ", FORMATS[plan.type].code, offset))
            offset = _aligned(offset + plan.size, DEFAULT_ALIGNMENT)
        for plan, tensor in zip(plans, tensors, strict=True):
            _pad(file)
            rows = tensor.detach().reshape(-1, plan.shape[-1])
            for part in rows.split(max(CHUNK_WEIGHTS // plan.shape[-1], 1)):
                file.write(quantize(part.to("cpu", torch.float32), plan.type, plan.importance).data)
        _pad(file)


def _pad(file: IO[bytes]) -> None:
    file.write(bytes(-file.tell() % DEFAULT_ALIGNMENT))


def _packed_string(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return struct.pack("<Q", len(data)) + data


def _packed_value(value: Any) -> bytes:
    """The type number and the value. Python numbers become the 32-bit types that llama.cpp expects for its keys."""
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", STRING) + _packed_string(value)
        case np.generic():
            code = next(code for code, form in SCALARS.items() if np.dtype(form) == value.dtype)
            return struct.pack("<I", code) + value.tobytes()
        case np.ndarray():
            code = next(code for code, form in SCALARS.items() if np.dtype(form) == value.dtype)
            return struct.pack("<IIQ", ARRAY, code, len(value)) + value.tobytes()
        case _:
            return struct.pack("<IIQ", ARRAY, STRING, len(value)) + b"".join(map(_packed_string, value))
