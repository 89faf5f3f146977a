"""Change anything in a saved folder: verification names the file (R4)."""

import os
import random
from pathlib import Path

import pytest

from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_folder, verify_folder

FILES = ("model.safetensors", "optimizer.safetensors", "rng.json", "data.json")


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    noise = random.Random(0)
    with atomic_folder(tmp_path / "step-000100") as folder:
        for name in FILES:
            (folder / name).write_bytes(noise.randbytes(9000))
    return tmp_path / "step-000100"


def truncate(file: Path, at: random.Random) -> None:
    os.truncate(file, at.randrange(file.stat().st_size))


def flip_one_bit(file: Path, at: random.Random) -> None:
    data = bytearray(file.read_bytes())
    data[at.randrange(len(data))] ^= 1 << at.randrange(8)
    file.write_bytes(data)


def zero_a_page(file: Path, at: random.Random) -> None:
    data = bytearray(file.read_bytes())
    start = at.randrange(len(data) - 4096)
    data[start : start + 4096] = bytes(4096)
    file.write_bytes(data)


def remove(file: Path, at: random.Random) -> None:
    file.unlink()


def swap(file: Path, at: random.Random) -> None:
    other = file.with_name(at.choice([name for name in FILES if name != file.name]))
    mine, others = file.read_bytes(), other.read_bytes()
    file.write_bytes(others)
    other.write_bytes(mine)


@pytest.mark.parametrize("damage", [truncate, flip_one_bit, zero_a_page, remove, swap])
@pytest.mark.parametrize("name", FILES)
def test_damage_is_found_and_the_file_named(saved, name, damage):
    whole = {file: file.read_bytes() for file in saved.iterdir()}
    at = random.Random(f"{name}{damage.__name__}")
    for _ in range(15):
        damage(saved / name, at)
        with pytest.raises(CheckpointError) as caught:
            verify_folder(saved)
        assert damage is swap or name in str(caught.value)
        for file, data in whole.items():
            file.write_bytes(data)
    assert verify_folder(saved)


def test_every_bit_of_the_manifest_counts(tmp_path):
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "a").write_bytes(b"x")
    manifest = tmp_path / "model" / "manifest.json"
    whole = manifest.read_bytes()
    for position in range(len(whole)):
        for bit in range(8):
            manifest.write_bytes(whole[:position] + bytes([whole[position] ^ 1 << bit]) + whole[position + 1 :])
            with pytest.raises(CheckpointError):
                verify_folder(tmp_path / "model")


def test_a_stale_manifest_is_found(saved):
    old = (saved / "manifest.json").read_bytes()
    with atomic_folder(saved) as folder:
        for name in FILES:
            (folder / name).write_bytes(b"new weights")
    (saved / "manifest.json").write_bytes(old)
    with pytest.raises(CheckpointError, match="data.json has 11 bytes, but 9000 were written"):
        verify_folder(saved)
