"""What a run is, when its process died, failed early, or shares its number with another process."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qianwen.cli import main
from qianwen.runtime import runs
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import RunFolder, is_locked, lock
from qianwen.train.job import Job

HOLD = """
import os, sys, time
from qianwen.train.job import Job
with Job.start("mine", "pretrain", {"lr": 1}):
    print("locked", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    return tmp_path / "mine"


@pytest.fixture
def process(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the run."""
    with subprocess.Popen([sys.executable, "-c", HOLD], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout and process.stdout.readline() == "locked\n"
        yield process
        process.kill()


def test_a_live_run_runs_and_cannot_be_deleted(folder: Path, process: subprocess.Popen[str]) -> None:
    run = RunFolder.open("mine")
    assert runs.state(run) == "running" and is_locked(folder)
    with pytest.raises(ConfigError, match=f"running as process {process.pid}"):
        runs.delete(run)


def test_a_zombie_has_stopped_and_can_be_deleted(folder: Path, process: subprocess.Popen[str]) -> None:
    process.kill()  # not waited for: the number stays taken
    deadline = time.monotonic() + 10
    while is_locked(folder) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert Path(f"/proc/{process.pid}").exists() or sys.platform != "linux"
    run = RunFolder.open("mine")
    assert run.record["state"] == "running" and runs.state(run) == "stopped"
    runs.delete(run)
    assert not folder.exists()


@pytest.mark.parametrize("pid", ["own", "parent", 1, 2**22 + 9, -1, None, "x"])
def test_the_number_of_another_process_means_nothing(folder: Path, pid: object) -> None:
    pid = {"own": os.getpid(), "parent": os.getppid()}.get(pid, pid)  # as constants: each worker has its own
    RunFolder.create("mine", "pretrain", {}).set_state("running", pid=pid)
    for written in (None, str(pid)):
        if written is not None:
            (folder / ".lock").write_text(written)
        assert runs.state(RunFolder.open("mine")) == "stopped"
    with Job.start("mine", "pretrain", {}):
        assert runs.state(RunFolder.open("mine")) == "running"
    runs.delete(RunFolder.open("mine"))


def test_asking_does_not_keep_a_run_from_starting(folder: Path) -> None:
    for _ in range(50):
        with lock(folder):
            assert is_locked(folder)
        assert not is_locked(folder) and not is_locked(folder / "nothing here")


def fail(config: dict, error: Exception) -> None:
    with pytest.raises(type(error)), Job.start("mine", "pretrain", config) as job:
        (job.path / "tokens").mkdir()
        (job.path / "tokens" / "data.bin").write_bytes(b"of the first vocabulary")
        (job.path / "checkpoints").mkdir()
        (job.path / "metrics.jsonl").touch()
        raise error


def test_a_run_that_failed_early_says_why_and_frees_its_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fail({"lr": 1}, DataError("no answer begins within [16] tokens"))
    assert RunFolder.open("mine").record["error"] == "no answer begins within [16] tokens"
    assert main(["runs"]) == 0
    assert "mine failed: no answer begins within [16] tokens" in " ".join(capsys.readouterr().out.split())
    with Job.start("mine", "sft", {"lr": 2}) as job:
        assert not (job.path / "tokens").exists() and "error" not in job.folder.record
    assert RunFolder.open("mine").record["state"] == "finished" and "error" not in RunFolder.open("mine").record


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (ConfigError("seq_len is too long"), "seq_len is too long"),
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (ZeroDivisionError("division by zero"), "ZeroDivisionError: division by zero"),
        (MemoryError(), "MemoryError: "),
        (RuntimeError("CUDA out of memory"), "RuntimeError: CUDA out of memory"),
    ],
)
def test_every_failure_has_a_reason(folder: Path, error: Exception, reason: str) -> None:
    fail({}, error)
    assert json.loads((folder / "run.json").read_text())["error"] == reason


@pytest.mark.parametrize(
    "made", ["metrics.jsonl", "checkpoints/step-000001/x", "model/config.json", "sft/run.json", "mine.txt"]
)
def test_a_run_that_made_something_keeps_its_name(folder: Path, made: str) -> None:
    with pytest.raises(OSError), Job.start("mine", "pretrain", {"lr": 1}) as job:
        (job.path / made).parent.mkdir(parents=True, exist_ok=True)
        (job.path / made).write_text('{"step": 1, "loss": 1.0}\n')
        raise OSError("disk")
    with pytest.raises(ConfigError, match="was made with lr = 1, not 2"), Job.start("mine", "pretrain", {"lr": 2}):
        pass
    assert (folder / made).exists()
