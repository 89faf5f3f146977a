"""Benchmarks by their hub name: from a local cache in the hub's layout, and what is said where there is none."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from qianwen.eval.hub_data import HUB, fetch_data
from qianwen.eval.task import TaskOptions
from qianwen.eval.tasks import TASKS
from qianwen.runtime.errors import ConfigError

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def cached(home: Path, name: str) -> Path:
    """The folder of a data set in the cache that `huggingface_hub` keeps below HF_HOME."""
    folder = home / "hub" / f"datasets--{name.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(COMMIT)
    snapshot = folder / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    return snapshot


def fetched(home: Path, task: str) -> subprocess.CompletedProcess[str]:
    """Fetch in a separate process, because `huggingface_hub` reads its variables when it is imported."""
    code = f"from qianwen.eval.hub_data import fetch_data; print(fetch_data({task!r}))"
    clean = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    env = clean | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)


def test_a_task_reads_the_files_of_the_hub(tmp_path: Path) -> None:
    snapshot = cached(tmp_path, "cais/mmlu")
    columns = {"question": ["q"] * 5, "subject": ["virology"] * 5, "choices": [["a", "b", "c", "d"]] * 5}
    table = pa.table({**columns, "answer": [0, 1, 2, 3, 0]})
    (snapshot / "all").mkdir()
    for split in ("dev", "test"):
        parquet.write_table(table, snapshot / "all" / f"{split}-00000-of-00001.parquet")
    done = fetched(tmp_path, "mmlu-shot-orders")
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()) == snapshot
    assert len(list(TASKS["mmlu"](TaskOptions(data=snapshot)).examples())) == 5


def test_without_a_network_the_remedy_is_named(tmp_path: Path) -> None:
    done = fetched(tmp_path, "ceval-test")
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1 and "DataError" in last
    assert "no data for ceval-test (ceval/ceval-exam is not in the local cache" in last and "--data-dir" in last


def test_a_task_that_is_not_on_the_hub_needs_a_folder() -> None:
    with pytest.raises(ConfigError, match="questions needs --data-dir"):
        fetch_data("questions")


def test_every_name_is_the_beginning_of_a_task() -> None:
    assert all(name in {task.partition("-")[0] for task in TASKS} for name in HUB)
