"""GGUF models in parts: round trips, and parts that are missing or confused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan
from qianwen.checkpoints.gguf.parts import open_gguf, part_paths, write_parts
from qianwen.runtime.errors import CheckpointError

METADATA = {"general.architecture": "qwen2", "count": 7}
PLANS = [TensorPlan(name, "F32", (4, 8)) for name in "abcde"]  # 128 bytes each
NAMES = [f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]


def data() -> list[torch.Tensor]:
    return [torch.full((4, 8), float(number)) for number in range(len(PLANS))]


@pytest.fixture
def first(tmp_path: Path) -> Path:
    return write_parts(tmp_path / "m.gguf", METADATA, PLANS, data(), 300)


def test_any_part_opens_all_parts(first: Path) -> None:
    assert sorted(path.name for path in first.parent.iterdir()) == NAMES and first.name == NAMES[0]
    for name in NAMES:
        file = open_gguf(first.with_name(name))
        assert file.path == first and file.metadata.items() >= METADATA.items() and list(file.tensors) == list("abcde")
        for plan, tensor in zip(PLANS, data(), strict=True):
            assert torch.equal(file.tensors[plan.name].dequantize(), tensor)


def test_numbers_have_the_types_that_llama_cpp_expects(first: Path) -> None:
    gguf = pytest.importorskip("gguf", reason="the gguf package is the oracle")
    fields = gguf.GGUFReader(first.with_name(NAMES[1])).fields
    types = {name: fields[name].types for name in ("split.no", "split.count", "split.tensors.count")}
    kinds = gguf.GGUFValueType
    assert types == {"split.no": [kinds.UINT16], "split.count": [kinds.UINT16], "split.tensors.count": [kinds.INT32]}


def test_tensors_that_fit_are_one_file(tmp_path: Path) -> None:
    assert write_parts(tmp_path / "m.gguf", METADATA, PLANS, data(), 640) == tmp_path / "m.gguf"
    assert open_gguf(tmp_path / "m.gguf").metadata == METADATA and part_paths(tmp_path / "m.gguf") == [
        tmp_path / "m.gguf"
    ]


def test_a_tensor_larger_than_a_part_is_a_part_by_itself(tmp_path: Path) -> None:
    first = write_parts(tmp_path / "m.gguf", METADATA, PLANS, data(), 1)
    assert [len(GgufFile(path).tensors) for path in part_paths(first)] == [1] * 5


def test_missing_and_misplaced_parts_are_named(first: Path) -> None:
    second, third = (first.with_name(name) for name in NAMES[1:])
    kept = second.read_bytes()
    second.unlink()
    with pytest.raises(CheckpointError, match=f"one of 3 parts, but its folder does not have {second.name}"):
        open_gguf(first)
    shutil.copy(third, second)
    with pytest.raises(CheckpointError, match="is part 3 of 3 by its metadata"):
        open_gguf(first)
    second.write_bytes(kept)
    shutil.copy(first, first.with_name("renamed.gguf"))
    with pytest.raises(CheckpointError, match="is part 1 of 3 by its metadata"):
        open_gguf(first.with_name("renamed.gguf"))


def test_parts_of_two_models_are_refused(first: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = write_parts(tmp_path / "other" / "m.gguf", METADATA, PLANS[::-1], data(), 300)
    shutil.copy(other.with_name(NAMES[2]), first.with_name(NAMES[2]))
    with pytest.raises(CheckpointError, match="tensor a is also in another part"):
        open_gguf(first)
    fewer = write_parts(tmp_path / "other" / "m.gguf", METADATA, [*PLANS[:4], PLANS[4]._replace(name="f")], data(), 300)
    shutil.copy(fewer.with_name(NAMES[2]), first.with_name(NAMES[2]))
    assert np.array_equal(sorted(open_gguf(first).tensors), list("abcdf"))
