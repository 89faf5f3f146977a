"""The life of a run: every end leaves its state, and the same call goes on; the rest is in `test_pretrain.py`."""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from qianwen.runtime import runs
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder, lock
from qianwen.runtime.log import read_metrics
from qianwen.train.hooks import log_every
from qianwen.train.job import Job, stop_signals, train
from qianwen.train.state import TrainState

CONFIG = {"lr": 1e-3}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    return tmp_path / "mine"


def record(folder: Path) -> dict:
    return json.loads((folder / "run.json").read_text())


def test_a_job_is_locked_while_it_runs_and_finished_after_it(folder: Path) -> None:
    with Job.start("mine", "pretrain", CONFIG) as job:
        assert record(folder)["state"] == "running" and record(folder)["pid"] == os.getpid()
        with pytest.raises(ConfigError, match=f"in use by process {os.getpid()}"), Job.start("mine", "sft", CONFIG):
            pass
        job.record(seconds=3)
    assert record(folder)["state"] == "finished" and record(folder)["seconds"] == 3
    with lock(folder):
        pass
    with Job.start("mine", "pretrain", CONFIG) as again:
        assert again.folder.record["seconds"] == 3
    with pytest.raises(ConfigError, match=r"lr = 0.001, not 0.002"), Job.start("mine", "pretrain", {"lr": 2e-3}):
        pass


@pytest.mark.parametrize(
    ("error", "state"),
    [(KeyboardInterrupt(), "interrupted"), (OSError("disk"), "failed"), (SystemExit(1), "failed")],
)
def test_every_other_end_is_recorded(folder: Path, error: BaseException, state: str) -> None:
    with pytest.raises(type(error)), Job.start("mine", "pretrain", CONFIG):
        raise error
    assert record(folder)["state"] == state


def test_sigterm_ends_a_job_as_ctrl_c_does_outer_jobs_too(folder: Path) -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), Job.start("mine", "demo", CONFIG), Job.start("mine/sft", "sft", CONFIG):
        signal.raise_signal(signal.SIGTERM)
    assert record(folder)["state"] == record(folder / "sft")["state"] == "interrupted"
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_kill_leaves_a_run_that_is_known_to_have_stopped(folder: Path) -> None:
    script = (
        "import os, signal\nfrom qianwen.train.job import Job\n"
        "with Job.start('mine', 'pretrain', {}):\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    assert record(folder)["state"] == "running" and runs.state(RunFolder.open("mine")) == "stopped"
    with Job.start("mine", "pretrain", {}):
        pass
    assert record(folder)["state"] == "finished"


def attempt(tiny, stop_at: int | None = None, log_steps: int = 1) -> TrainState:
    """Go on with the run `mine` of 12 steps, raising SIGINT at a step."""
    state, config = tiny.new_state(), tiny.loop_config(steps=12)

    def interrupt(state: TrainState, metrics: dict) -> None:
        if state.step == stop_at:
            signal.raise_signal(signal.SIGINT)

    with Job.start("mine", "pretrain", CONFIG) as job:
        checkpoints = job.resume(state, 12, keep=2)
        hooks = [log_every(log_steps, 12, job.metrics_log(state)), interrupt]

        def loss_fn(model, batch):
            return *tiny.loss_fn(model, batch)[:2], {}  # an additional metric would add lines

        train(loss_fn, tiny.batches(4), config, state, hooks, checkpoints, 5)
    return state


def test_a_stopped_job_goes_on_bit_for_bit_with_whole_rows(tiny, folder: Path, capsys: pytest.CaptureFixture) -> None:
    straight = tiny.new_state()
    expected = tiny.train(straight, steps=12)
    with pytest.raises(KeyboardInterrupt, match="saved at step 7"):
        attempt(tiny, 7)
    with (folder / "metrics.jsonl").open("a") as file:
        file.write('{"step": 8, "loss": 1.0}\n{"step": 9, "lo')  # rows of steps that are lost, and half a row
    state = attempt(tiny)
    assert "continuing from step 7 of 12" in capsys.readouterr().out
    rows = read_metrics(folder / "metrics.jsonl")
    assert [(row["step"], row["loss"]) for row in rows] == [(m["step"], m["loss"]) for m in expected]
    assert tiny.same(tiny.snapshot(state), tiny.snapshot(straight))
    assert sorted(path.name for path in (folder / "checkpoints").iterdir()) == ["step-000010", "step-000012"]


def test_a_resumed_run_logs_the_same_mean_losses(tiny, folder: Path) -> None:
    """The mean since the last line, which may be older than the checkpoint."""

    def rows(name: str) -> list[tuple]:
        return [
            (row["step"], row["loss"], row["mean_loss"]) for row in read_metrics(folder.parent / name / "metrics.jsonl")
        ]

    attempt(tiny, log_steps=5)
    folder.rename(folder.parent / "straight")
    with pytest.raises(KeyboardInterrupt, match="saved at step 8"):
        attempt(tiny, 8, log_steps=5)
    attempt(tiny, log_steps=5)
    assert rows("mine") == rows("straight") and [step for step, *_ in rows("mine")] == [1, 5, 10, 12]
    assert all(mean != loss for step, loss, mean in rows("mine") if step > 1)


def test_both_speeds_are_logged(tiny, folder: Path) -> None:
    attempt(tiny)
    for row in read_metrics(folder / "metrics.jsonl"):
        assert 0 < row["labelled_tokens_per_second"] < row["tokens_per_second"]


def test_the_second_ctrl_c_interrupts_at_once() -> None:
    with stop_signals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_job_runs_outside_the_main_thread(folder: Path) -> None:
    """Python lets no other thread choose what a signal does, so they stay as they were."""
    seen = []

    def work() -> None:
        with Job.start("mine", "pretrain", CONFIG), stop_signals() as stop:
            seen.append((stop(), signal.getsignal(signal.SIGTERM)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(False, signal.getsignal(signal.SIGTERM))] and record(folder)["state"] == "finished"
