"""The safetensors container, compared with the reference library, and malicious files."""

import json
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qianwen.checkpoints.safetensors_file import HEADER_LIMIT, SafetensorsFile, write_safetensors
from qianwen.runtime.device import memory_in_use_bytes
from qianwen.runtime.errors import CheckpointError

TENSORS = {
    "a": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b": torch.arange(5, dtype=torch.bfloat16),
    "empty": torch.zeros(0, 4),
    "scalar": torch.tensor(7, dtype=torch.int64),
    "mask": torch.tensor([True, False, True]),
    "half": torch.arange(4, dtype=torch.float16),
    "byte": torch.arange(9, dtype=torch.uint8),
}


def test_reads_what_the_reference_writes(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors", metadata={"format": "pt"})
    file = SafetensorsFile(tmp_path / "x.safetensors")
    assert file.entries.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        read = file.read(name)
        assert read.dtype == tensor.dtype and torch.equal(read, tensor)


def test_the_reference_reads_what_we_write(tmp_path: Path) -> None:
    plans = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in TENSORS.items()}
    write_safetensors(tmp_path / "x.safetensors", plans, iter(TENSORS.values()))
    read = load_file(tmp_path / "x.safetensors")
    assert read.keys() == TENSORS.keys()
    assert all(torch.equal(read[name], tensor) and read[name].dtype == tensor.dtype for name, tensor in TENSORS.items())


def test_a_tensor_owns_writable_memory(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    file.read("a").fill_(9)
    assert torch.equal(file.read("a"), TENSORS["a"])


def packed(header: object, data: bytes = bytes(24), length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(**changes: object) -> dict[str, object]:
    return {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]} | changes


def two(left: list[int], right: list[int], size: int) -> bytes:
    ranges = {"l": left, "r": right}
    header = {name: entry(dtype="U8", shape=[max(b - a, 0)], data_offsets=[a, b]) for name, (a, b) in ranges.items()}
    return packed(header, bytes(size))


VALID = packed({"t": entry()})
HUGE = 1 << 62
MALFORMED: dict[str, bytes] = {
    "empty": b"",
    "seven bytes": VALID[:7],
    "length only": (100).to_bytes(8, "little"),
    "length past the end": packed({"t": entry()}, length=1000),
    "length of exabytes": packed({"t": entry()}, length=2**64 - 1),
    "length of gigabytes": packed({"t": entry()}, length=8 << 30),
    "header over the limit": packed(b" " * (HEADER_LIMIT + 1)),
    "length zero": packed(b""),
    "length short": packed({"t": entry()}, length=10),
    "no JSON": packed(b"\xff\xfe\x00garbage"),
    "JSON list": packed([]),
    "JSON string": packed(b'"hello"'),
    "JSON null": packed(b"null"),
    "deep nesting": packed(b"[" * 200_000),
    "deep object": packed(b'{"a":' * 100_000),
    "duplicate names": packed(b'{"t":%b,"t":%b}' % ((json.dumps(entry()).encode(),) * 2)),
    "endless number": packed(b'{"t":{"dtype":"F32","shape":[' + b"9" * 10_000 + b'],"data_offsets":[0,24]}}'),
    "NaN offsets": packed(b'{"t":{"dtype":"F32","shape":[6],"data_offsets":[NaN,24]}}'),
    "infinite shape": packed(b'{"t":{"dtype":"F32","shape":[1e999],"data_offsets":[0,24]}}'),
    "entry a list": packed({"t": [1, 2]}),
    "entry a number": packed({"t": 5}),
    "entry null": packed({"t": None}),
    "no dtype": packed({"t": {"shape": [6], "data_offsets": [0, 24]}}),
    "no shape": packed({"t": {"dtype": "F32", "data_offsets": [0, 24]}}),
    "no offsets": packed({"t": {"dtype": "F32", "shape": [6]}}),
    "unknown dtype": packed({"t": entry(dtype="F8_E4M3")}),
    "dtype a list": packed({"t": entry(dtype=["F32"])}),
    "shape a string": packed({"t": entry(shape="23")}),
    "negative shape": packed({"t": entry(shape=[-2, -3])}),
    "fractional shape": packed({"t": entry(shape=[2.0, 3.0])}),
    "boolean shape": packed({"t": entry(shape=[True, 6])}),
    "overflowing shape": packed({"t": entry(shape=[HUGE, HUGE, 4])}),
    "shape too large": packed({"t": entry(shape=[2, 4])}),
    "shape too small": packed({"t": entry(shape=[2, 2])}),
    "one offset": packed({"t": entry(data_offsets=[0])}),
    "three offsets": packed({"t": entry(data_offsets=[0, 24, 48])}),
    "offsets swapped": packed({"t": entry(data_offsets=[24, 0])}),
    "negative offsets": packed({"t": entry(data_offsets=[-24, 0])}),
    "offsets outside": packed({"t": entry(data_offsets=[24, 48])}),
    "terabytes promised": packed({"t": entry(shape=[1 << 40], data_offsets=[0, 1 << 42])}),
    "file torn": VALID[:-1],
    "bytes left over": VALID + b"x",
    "gap at the start": two([4, 8], [8, 12], 12),
    "gap between": two([0, 4], [8, 12], 12),
    "overlap": two([0, 8], [4, 12], 12),
    "same range twice": two([0, 12], [0, 12], 12),
    "hidden data": packed({}, bytes(1000)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_cost_an_error_and_nothing_else(tmp_path: Path, case: str) -> None:
    path = tmp_path / "evil.safetensors"
    path.write_bytes(MALFORMED[case])
    memory, start = memory_in_use_bytes(), time.perf_counter()
    with pytest.raises(CheckpointError, match="evil.safetensors"):
        SafetensorsFile(path)
    assert time.perf_counter() - start < 2
    assert memory_in_use_bytes() - memory < 200 << 20


def test_every_cut_of_a_sound_file_is_noticed(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    data = (tmp_path / "x.safetensors").read_bytes()
    for size in range(len(data)):
        (tmp_path / "x.safetensors").write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            SafetensorsFile(tmp_path / "x.safetensors")


def test_a_file_truncated_after_opening_is_an_error(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x.safetensors")
    file = SafetensorsFile(tmp_path / "x.safetensors")
    data = file.path.read_bytes()
    file.path.write_bytes(data[: file.entries["a"].end - 1])
    with pytest.raises(CheckpointError, match="tensor a"):
        file.read("a")
