"""A disk that fills at any byte: no torn artefact, a clear error, and it goes on once there is room (R5)."""

import os
import random
import subprocess
from pathlib import Path

import pytest

from qianwen.runtime.files import atomic_file, atomic_folder, read_jsonl, verify_folder, write_jsonl
from qianwen.runtime.log import MetricsLog, read_metrics

DISK_BYTES = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of one megabyte."""
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(tmp_path)]
    if os.name == "nt" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("a small file system needs the right to mount one")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


def fill(disk: Path, leave: int) -> Path:
    """Take all space but `leave` bytes, rounded to pages."""
    stone = disk / "stone"
    with stone.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize
        file.write(b"\0" * max(free - leave, 0))
    return stone


@pytest.mark.parametrize("offset", [random.Random(seed).randrange(100_000) for seed in range(30)])
def test_a_save_on_a_full_disk_keeps_the_last_one_and_works_after(small_disk, offset):
    model, log, shard = small_disk / "model", small_disk / "metrics.jsonl", small_disk / "shard.jsonl.zst"
    rows = [{"noise": os.urandom(400).hex()} for _ in range(100)]

    def save(content: bytes) -> None:
        with atomic_folder(model) as folder:
            (folder / "weights").write_bytes(content * 100_000)

    save(b"a")
    write_jsonl(shard, rows[:1])
    stone = fill(small_disk, offset)
    with pytest.raises(OSError, match="No space left on device: .*model"):
        save(b"b")
    with pytest.raises(OSError, match=r"No space left on device: .*export"), atomic_file(small_disk / "export") as file:
        file.write(b"c" * 150_000)
    verify_folder(model)
    assert (model / "weights").read_bytes()[:1] == b"a"
    assert list(read_jsonl(shard)) == rows[:1]
    assert {path.name for path in small_disk.iterdir()} <= {"model", "stone", "shard.jsonl.zst"}

    stone.unlink()
    save(b"b")
    assert verify_folder(model) and (model / "weights").read_bytes()[:1] == b"b"
    assert write_jsonl(shard, rows) == 100
    assert not log.exists()


def test_a_full_disk_costs_log_lines_but_neither_the_run_nor_the_file(small_disk, capsys):
    log = MetricsLog(small_disk / "metrics.jsonl")
    log.log(step=0, loss=1.0)
    stone = fill(small_disk, 0)
    for step in range(1, 400):
        log.log(step=step, loss=1.0, note="x" * 50)
    stone.unlink()
    log.log(step=400, loss=1.0)
    steps = [row["step"] for row in read_metrics(log.path)]
    assert steps[0] == 0 and steps[-1] == 400 and len(steps) < 401
    assert len(steps) == len(log.path.read_text().splitlines()), "every line is whole"
    assert capsys.readouterr().out.count("metrics cannot be saved") == 1
