"""Work over processes of our own, and on a Ray cluster."""

import copy
import gc
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("daft", reason="Daft comes with the extra `data`")
import daft

from qianwen.data import worker_pool
from qianwen.data.documents.document import FilePart
from qianwen.data.file_listing import list_files
from qianwen.runtime.errors import DataError

# Daft leaves the pipes of its workers to the garbage collector, which Python calls unclean.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


def test_results_come_from_other_processes() -> None:
    sessions = set(worker_pool.each(os.getsid, [0] * 5, workers=2))  # every worker is a session of its own
    assert sessions <= {worker.process.pid for worker in worker_pool._idle} and os.getsid(0) not in sessions
    gc.collect()


def test_tasks_and_results_keep_their_types() -> None:
    tasks = [FilePart(k, 5, 1 << 40) for k in range(5)]
    results = list(worker_pool.each(copy.copy, tasks, workers=2))
    assert sorted(results, key=lambda part: part.k) == tasks


def test_workers_stay_for_the_next_tasks_unless_nobody_waited_for_the_last() -> None:
    assert set(worker_pool.each(os.path.isdir, [".", "no such"], workers=2)) == {True, False}
    kept = {worker.process.pid for worker in worker_pool._idle}
    assert sorted(worker_pool.each(os.path.basename, ["a/b", "a/c"], workers=2)) == ["b", "c"]
    assert {worker.process.pid for worker in worker_pool._idle} == kept and len(kept) == 2
    answers = worker_pool.each(os.path.basename, ["a/b"] * 9, workers=2)
    next(answers)
    answers.close()
    assert not worker_pool._idle and not any(map(psutil.pid_exists, kept))


def test_workers_know_the_folder_and_the_environment_of_now(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(worker_pool.each(os.path.abspath, [".", "./"], workers=2)) == {os.getcwd()}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_TOLD", "now")
    assert set(worker_pool.each(os.path.abspath, [".", "./"], workers=2)) == {str(tmp_path)}
    assert set(worker_pool.each(os.getenv, ["QIANWEN_TOLD"] * 2, workers=2)) == {"now"}


def test_a_worker_that_dies_is_told() -> None:
    with pytest.raises(DataError, match="a worker process died"):
        list(worker_pool.each(os._exit, [1, 2], workers=2))
    assert list(worker_pool.each(os.path.basename, ["a/b", "a/b"], workers=2)) == ["b", "b"], (
        "and others take its place"
    )


def test_one_worker_needs_no_process() -> None:
    assert list(worker_pool.each(_own_process, [1, 2], workers=1)) == [os.getpid()] * 2


def _own_process(_: int) -> int:
    return os.getpid()


def test_what_fails_in_a_worker_is_said_here_and_the_rest_is_not_waited_for() -> None:
    with pytest.raises(DataError, match="no such file or folder") as caught:
        list(worker_pool.each(list_files, ["no such", "neither"] * 20, workers=2))
    assert caught.tb and not worker_pool._idle, "though the error still knows its frames"
    gc.collect()


def test_a_result_that_cannot_travel_is_an_error_and_the_worker_goes_on(tmp_path: Path) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(DataError, match="cannot pickle"):
        list(worker_pool.each(open, [tmp_path / "a"] * 2, workers=2))
    gc.collect()


@pytest.mark.parametrize(("ray", "address"), [("ray://head:10001", "ray://head:10001"), ("local", None)])
def test_the_address_of_the_cluster_reaches_daft(
    monkeypatch: pytest.MonkeyPatch, ray: str, address: str | None
) -> None:
    addresses: list[str | None] = []
    monkeypatch.setattr(daft, "set_runner_ray", lambda address: addresses.append(address))
    monkeypatch.setattr(worker_pool, "_running", {"on Ray": False})
    worker_pool.use(ray)
    assert addresses == [address] and worker_pool._running["on Ray"]
    worker_pool.use()
    assert addresses == [address] and not worker_pool._running["on Ray"]


RAY_START = ["start", "--head", "--block", "--port=PORT", "--include-dashboard=false"]
ON_RAY = """
import copy, json, os, sys
import ray
from qianwen.data import worker_pool
from qianwen.data.documents.document import FilePart
worker_pool.use(sys.argv[1])
parts = list(worker_pool.each(copy.copy, [FilePart(k, 3) for k in range(3)], workers=2))
sessions = list(worker_pool.each(os.getsid, [0], workers=1))
cluster = ray.get_runtime_context().gcs_address
print(json.dumps([cluster, sorted(part.k for part in parts), os.getsid(0) in sessions]))
"""


@pytest.mark.slow
def test_tasks_run_on_the_cluster_at_the_address() -> None:
    pytest.importorskip("ray", reason="Ray comes with the extra `ray`")
    with tempfile.TemporaryDirectory(prefix="ray") as folder:  # `tmp_path` is too long for the names of its sockets
        _run_on_ray(os.environ | {"RAY_TMPDIR": folder, "RAY_AUTH_MODE": "disabled"})


def _run_on_ray(environment: dict[str, str]) -> None:
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    start = f"import sys; from ray.scripts.scripts import main; sys.argv[1:] = {RAY_START!r}; main()"
    command = [sys.executable, "-c", start.replace("PORT", str(port))]
    head = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment, start_new_session=True)
    try:
        _wait_for(port)
        command = [sys.executable, "-c", ON_RAY, f"127.0.0.1:{port}"]  # Ray puts the machine's own address for this
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert not done.returncode, done.stderr
        cluster, parts, is_here = json.loads(done.stdout.splitlines()[-1])
        assert cluster.endswith(f":{port}") and parts == [0, 1, 2] and not is_here
    finally:
        for process in [*psutil.Process(head.pid).children(recursive=True), head]:
            process.kill()
        head.wait()


def _wait_for(port: int) -> None:
    for _ in range(300):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail("the cluster did not start")
