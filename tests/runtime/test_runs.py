"""The registry of runs: no index, only folders."""

import os
import threading
import time

import pytest

from qianwen.runtime import runs
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder, lock
from qianwen.runtime.log import MetricsLog


@pytest.fixture(autouse=True)
def runs_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def make(name: str, lr: float = 1e-3, steps: int = 3) -> RunFolder:
    run = RunFolder.create(runs.runs_dir() / name, "pretrain", {"lr": lr, "loop": {"steps": steps}})
    log = MetricsLog(run.metrics_path)
    for step in range(steps):
        log.log(step=step, loss=5 - step * lr)
    return run


def test_runs_are_listed_the_newest_first_with_those_inside_others(runs_folder):
    for number, name in enumerate(("old", "demo", "demo/sft")):
        run = make(name)
        run.record["created"] = f"2030-01-0{number + 1}T00:00:00+0000"
        run.set_state("finished")
    (runs_folder / "not a run").mkdir()
    assert [runs.label(run) for run in runs.all_runs()] == ["demo/sft", "demo", "old"]
    assert runs.find_run("demo/sft").path == runs_folder / "demo" / "sft"
    assert runs.find_run(str(runs_folder / "old")).name == "old"


def test_a_damaged_record_is_listed_and_can_be_deleted(runs_folder):
    (make("torn").path / "run.json").write_text("{")
    (run,) = runs.all_runs()
    assert (runs.label(run), runs.state(run)) == ("torn", "damaged")


def test_a_run_without_its_lock_is_not_running():
    run = make("a")
    with lock(run.path):
        assert runs.state(run) == "running"
    assert runs.state(run) == "stopped"


def test_following_shows_what_is_there_then_what_comes_and_ends_with_the_run():
    run = make("live", steps=2)

    locked = threading.Event()

    def train() -> None:
        log = MetricsLog(run.metrics_path)
        with lock(run.path):
            locked.set()
            for step in (2, 3):
                time.sleep(0.05)
                log.log(step=step, loss=1.0)
            run.set_state("finished")

    trainer = threading.Thread(target=train)
    trainer.start()
    locked.wait()
    assert [row["step"] for row in runs.follow(run, poll_seconds=0.01)] == [0, 1, 2, 3]
    trainer.join()


def test_deleting_removes_everything_but_never_a_running_run(runs_folder):
    run = make("a")
    with lock(run.path), pytest.raises(ConfigError, match=f"running as process {os.getpid()}"):
        runs.delete(run)
    run.set_state("finished")
    assert runs.size_bytes(run) == sum(file.stat().st_size for file in run.path.iterdir())
    runs.delete(run)
    assert os.listdir(runs_folder) == []


def test_a_comparison_shows_what_differs_and_where_each_ended():
    first, second = make("a"), make("b", lr=2e-3)
    header, rows = runs.comparison([first, second])
    assert header == ["run", "a", "b"]
    assert ["lr", 1e-3, 2e-3] in rows and ["loss", 4.998, 4.996] in rows
    assert not [row for row in rows if row[0] == "loop.steps"]


def test_reports_of_one_run_and_of_several():
    first, second = make("a"), make("b", lr=2e-3)
    assert "loop.steps" in (one := runs.run_page(first).html()) and one.count("<img") == 1
    several = runs.compare_page([first, second], "loss").html()
    assert "loss over steps" in several and several.count("<img") == 1
    assert runs.run_page(RunFolder.create("empty", "sft", {})).html()
