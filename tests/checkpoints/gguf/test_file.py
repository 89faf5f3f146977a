"""The GGUF container: round trips, the reference reader, and malicious headers."""

import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan, write_gguf
from qianwen.runtime.device import memory_in_use_bytes
from qianwen.runtime.errors import CheckpointError

METADATA = {
    "general.architecture": "qwen2",
    "general.alignment": 32,
    "count": 7,
    "ratio": 0.5,
    "flag": True,
    "words": ["a", "Ġb", "", "你"],
    "types": np.array([1, -1, 3], np.int32),
    "scores": np.array([0.5, 1.5], np.float32),
}
PLANS = [
    TensorPlan("norm", "F32", (3,)),
    TensorPlan("half", "F16", (2, 5)),
    TensorPlan("brain", "BF16", (2, 3)),
    TensorPlan("eight", "Q8_0", (4, 64)),
    TensorPlan("four", "Q4_0", (4, 32)),
]


def tensors() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(plan.shape, generator=generator) for plan in PLANS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_gguf(tmp_path / "x.gguf", METADATA, PLANS, tensors())
    return tmp_path / "x.gguf"


def test_there_and_back(path: Path) -> None:
    file = GgufFile(path)
    assert file.metadata.keys() == METADATA.keys()
    assert all(np.array_equal(file.metadata[key], value) for key, value in METADATA.items())
    for plan, tensor in zip(PLANS, tensors(), strict=True):
        held = file.tensors[plan.name]
        assert (held.type, held.shape) == (plan.type, plan.shape) and held.raw.nbytes == plan.size
        tolerance = {"Q8_0": 0.02, "Q4_0": 0.4}.get(plan.type, 0.01)
        torch.testing.assert_close(held.dequantize(), tensor, rtol=0, atol=tolerance)
    assert torch.equal(file.tensors["norm"].dequantize(), tensors()[0])
    assert file.tensors["half"].dequantize(torch.float16).dtype == torch.float16


def test_the_reference_reader_agrees(path: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the oracle")
    reader = gguf.GGUFReader(path)
    for key, value in METADATA.items():
        read = reader.fields[key].contents()
        assert read == (value.tolist() if isinstance(value, np.ndarray) else value)
    for tensor in reader.tensors:
        held = GgufFile(path).tensors[tensor.name]
        assert tensor.tensor_type.name == held.type and tuple(reversed(tensor.shape.tolist())) == held.shape
        assert tensor.data.tobytes() == held.raw.tobytes()


def test_packed_rows_can_be_taken(path: Path) -> None:
    file = GgufFile(path)
    eight, norm = file.tensors["eight"], file.tensors["norm"]
    order = np.array([3, 1])
    assert torch.equal(eight.take(order).dequantize(), eight.dequantize()[order])
    assert torch.equal(eight.take(slice(1, 3)).dequantize(), eight.dequantize()[1:3])
    assert torch.equal(norm.take(np.array([2, 0])).dequantize(), norm.dequantize()[[2, 0]])
    assert eight.take(slice(1, 3)).shape == (2, 64)


# ---- made to hurt -----------------------------------------------------------------------------------------------


def string(text: str | bytes, length: int | None = None) -> bytes:
    data = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<Q", len(data) if length is None else length) + data


def header(tensors: int = 0, entries: int = 0, magic: bytes = b"GGUF", version: int = 3) -> bytes:
    return magic + struct.pack("<IQQ", version, tensors, entries)


def meta(key: str, type: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", type) + value


def info(
    name: str = "t", dims: tuple[int, ...] = (32,), type: int = 0, offset: int = 0, count: int | None = None
) -> bytes:
    number, shape = struct.pack("<I", len(dims) if count is None else count), struct.pack(f"<{len(dims)}Q", *dims)
    return string(name) + number + shape + struct.pack("<IQ", type, offset)


def whole(*infos: bytes, data: int = 4096, entries: bytes = b"", num_entries: int = 0) -> bytes:
    start = header(len(infos), num_entries) + entries + b"".join(infos)
    return start + bytes(-len(start) % 32) + bytes(data)


HUGE = (1 << 64) - 1
MALFORMED = {
    "empty": b"",
    "three bytes": b"GGU",
    "magic only": b"GGUF",
    "another magic": header(magic=b"GGML"),
    "version 1": header(version=1),
    "version 4": header(version=4),
    "big-endian": header(version=3 << 24),
    "cut in the counts": header()[:-3],
    "endless tensors": header(tensors=HUGE),
    "endless entries": header(entries=HUGE),
    "key longer than the file": header(entries=1) + string("k", length=1 << 40),
    "key of all bytes": header(entries=1) + string("k", length=HUGE),
    "unknown type": header(entries=1) + meta("k", 99, b""),
    "string value too long": header(entries=1) + meta("k", 8, string("v", length=1 << 33)),
    "array of exabytes": header(entries=1) + meta("k", 9, struct.pack("<IQ", 12, HUGE)),
    "array of endless strings": header(entries=1) + meta("k", 9, struct.pack("<IQ", 8, HUGE)),
    "array of arrays": header(entries=1) + meta("k", 9, struct.pack("<IQ", 9, 1)) + bytes(64),
    "array cut short": header(entries=1) + meta("k", 9, struct.pack("<IQ", 4, 100)) + bytes(399),
    "key twice": header(entries=2) + meta("k", 4, bytes(4)) * 2,
    "alignment zero": whole(info(), entries=meta("general.alignment", 4, bytes(4)), num_entries=1),
    "alignment three": whole(info(), entries=meta("general.alignment", 4, b"\3\0\0\0"), num_entries=1),
    "alignment a word": whole(info(), entries=meta("general.alignment", 8, string("32")), num_entries=1),
    "alignment of gigabytes": whole(info(), entries=meta("general.alignment", 4, b"\0\0\0\x80"), num_entries=1),
    "no dimensions": whole(info(dims=())),
    "five dimensions": whole(info(dims=(1, 1, 1, 1, 32))),
    "endless dimensions": whole(info(count=0xFFFFFFFF)),
    "dimension zero": whole(info(dims=(32, 0))),
    "product overflows": whole(info(dims=(1 << 62, 1 << 62, 4))),
    "terabytes promised": whole(info(dims=(1 << 40,))),
    "unknown tensor type": whole(info(type=4)),
    "row of half a block": whole(info(dims=(48, 2), type=8)),
    "offset not aligned": whole(info(offset=8)),
    "offset outside": whole(info(offset=1 << 50)),
    "last tensor torn": whole(info(dims=(32, 32), offset=32)),
    "overlap": whole(info("a", (64,)), info("b", (64,), offset=32)),
    "same name twice": whole(info("a", (8,)), info("a", (8,), offset=32)),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_files_cost_an_error_and_nothing_else(tmp_path: Path, case: str) -> None:
    path = tmp_path / "evil.gguf"
    path.write_bytes(MALFORMED[case])
    memory, start = memory_in_use_bytes(), time.perf_counter()
    with pytest.raises(CheckpointError, match="evil.gguf"):
        GgufFile(path)
    assert time.perf_counter() - start < 2
    assert memory_in_use_bytes() - memory < 100 << 20


def test_the_valid_form_of_those_files_is_read(tmp_path: Path) -> None:
    (tmp_path / "good.gguf").write_bytes(whole(info("a", (64,)), info("b", (32, 2), type=8, offset=256)))
    assert set(GgufFile(tmp_path / "good.gguf").tensors) == {"a", "b"}


def test_every_cut_of_a_sound_file_is_noticed(path: Path) -> None:
    data = path.read_bytes()
    last = PLANS[-1].size
    assert len(GgufFile(path).tensors) == len(PLANS)
    padding = -last % 32
    for size in range(len(data) - padding):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError):
            GgufFile(path)
