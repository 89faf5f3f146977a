"""The atomic writer when all goes well, and when one call fails. Kills, full disks and damage are in tests/faults."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from qianwen.runtime import atomic
from qianwen.runtime.atomic import atomic_file, atomic_folder, verify_folder
from qianwen.runtime.errors import CheckpointError


def leftovers(folder: Path) -> list[str]:
    return sorted(name for name in os.listdir(folder) if name.startswith("."))


def save(path: Path, text: str) -> None:
    with atomic_folder(path) as folder:
        (folder / "weights.bin").write_bytes(text.encode() * 100)
        (folder / "deep" / "er").mkdir(parents=True)
        (folder / "deep" / "er" / "state.json").write_text(text)


@pytest.fixture
def read_only(tmp_path: Path):
    """A folder that refuses writes, also from root."""
    folder = tmp_path / "read only"
    folder.mkdir()
    if os.geteuid() == 0:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", folder], capture_output=True).returncode:
            pytest.skip("root ignores permissions, and this root may not mount")
        yield folder
        subprocess.run(["umount", folder], check=True)
    else:
        folder.chmod(0o500)
        yield folder
        folder.chmod(0o700)


# ---- atomic_file ----


def test_a_file_appears_whole_and_leaves_nothing_behind(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic_file(path, "w") as file:
        file.write("一\n")
        assert not path.exists()
    assert path.read_bytes() == "一\n".encode()
    assert leftovers(path.parent) == []


def test_an_error_keeps_the_old_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_file(path, "w") as file:
        file.write("new")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_names_the_file_and_keeps_the_old_one(tmp_path, monkeypatch, failing):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def full(*_args):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched, pytest.raises(OSError, match=r"No space left.*a\.txt"):
        patched.setattr(os, failing, full)
        with atomic_file(path, "w") as file:
            file.write("new")
    assert path.read_text() == "old"
    assert leftovers(tmp_path) == []


def test_a_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere" / "real.txt")
    with atomic_file(tmp_path / "link", "w") as file:
        file.write("new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "elsewhere" / "real.txt").read_text() == "new"


def test_leftovers_of_dead_processes_are_removed_and_those_of_living_ones_kept(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    (tmp_path / f".a.txt.{int(dead.stdout)}-00000000.tmp").write_text("torn")
    mine = tmp_path / f".a.txt.{os.getpid()}-00000000.tmp"
    mine.write_text("in use")
    with atomic_file(tmp_path / "a.txt", "w") as file:
        file.write("x")
    assert leftovers(tmp_path) == [mine.name]


@pytest.mark.parametrize("writer", [atomic_file, atomic_folder])
def test_a_read_only_folder_is_named(read_only, writer):
    with pytest.raises(OSError, match="(Read-only|denied).*out") as caught, writer(read_only / "out"):
        pass
    assert caught.value.filename == str(read_only / "out")


@pytest.mark.parametrize("name", ["with spaces", "中文", "🙂 emoji", "a.b.c", "x" * 180, "中" * 80])
def test_any_name_works(tmp_path, name):
    save(tmp_path / name, "x")
    assert set(verify_folder(tmp_path / name)["files"]) == {"weights.bin", "deep/er/state.json"}


# ---- atomic_folder ----


def test_a_folder_is_replaced_whole(tmp_path):
    save(tmp_path / "model", "old")
    with atomic_folder(tmp_path / "model") as folder:
        (folder / "only.txt").write_text("new")
        verify_folder(tmp_path / "model")
        assert (tmp_path / "model" / "weights.bin").exists()
    assert set(os.listdir(tmp_path / "model")) == {"only.txt", "manifest.json"}
    assert os.listdir(tmp_path) == ["model"]


def test_an_error_keeps_the_old_folder(tmp_path):
    save(tmp_path / "model", "old")
    with pytest.raises(ZeroDivisionError), atomic_folder(tmp_path / "model") as folder:
        (folder / "weights.bin").write_text("new")
        raise ZeroDivisionError
    verify_folder(tmp_path / "model")
    assert (tmp_path / "model" / "weights.bin").read_bytes() == b"old" * 100
    assert os.listdir(tmp_path) == ["model"]


def test_a_replacement_that_fails_halfway_puts_the_old_folder_back(tmp_path, monkeypatch):
    save(tmp_path / "model", "old")
    rename, targets = os.rename, []

    def fail_the_second(source, target):
        targets.append(target)
        if len(targets) == 2:
            raise OSError(errno.EIO, "Input/output error")
        rename(source, target)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="Input/output error.*model"):
        patched.setattr(os, "rename", fail_the_second)
        save(tmp_path / "model", "new")
    assert (tmp_path / "model" / "deep" / "er" / "state.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["model"]


def test_a_replacement_cut_between_its_renames_is_undone(tmp_path):
    save(tmp_path / "model", "old")
    os.rename(tmp_path / "model", atomic._aside(tmp_path / "model"))
    assert verify_folder(tmp_path / "model")
    save(tmp_path / "model", "new")
    save(tmp_path / "aside", "older")
    os.rename(tmp_path / "aside", atomic._aside(tmp_path / "model"))  # killed after the renames, before the tidying
    assert verify_folder(tmp_path / "model")
    assert (tmp_path / "model" / "deep" / "er" / "state.json").read_text() == "new"
    assert os.listdir(tmp_path) == ["model"]


def test_verification_needs_a_manifest(tmp_path):
    with pytest.raises(CheckpointError, match="no readable manifest.json"):
        verify_folder(tmp_path)
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(CheckpointError, match="no readable manifest.json"):
        verify_folder(tmp_path)
