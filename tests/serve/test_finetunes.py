"""Fine-tuning runs that the pages start: checked orders, and a real run in a process of its own."""

import json
import os
import time
from pathlib import Path

import pytest

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime import runs
from qianwen.runtime.errors import ConfigError, DataError, QianwenError, RequestError
from qianwen.runtime.files import RunFolder, lock
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.bridge import Bridge
from qianwen.serve.finetunes import DATA, LOG, MAX_UPLOADS, UPLOADS, Finetunes, Order, can_resume, is_starting, log_tail
from qianwen.serve.service import Served, Service

DIALOGUES = [
    {"messages": [{"role": "user", "content": f"Say {n}"}, {"role": "assistant", "content": f"{n}"}]} for n in range(6)
]
FILE = "\n".join(map(json.dumps, DIALOGUES)).encode()


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def service(model, tokenizer, tmp_path, folder):
    write_folder(model, tokenizer, tmp_path / "tiny", chat=True)
    engine = LLMEngine(model, tokenizer, EngineConfig(num_blocks=64))
    served = Served("tiny", Bridge(engine), tokenizer, 512, SamplingParams(), source=str(tmp_path / "tiny"))
    opened = Service([served], Admission(Limits()))
    yield opened
    opened.close()


@pytest.fixture
def finetunes(service) -> Finetunes:
    return Finetunes(service)


def order(finetunes: Finetunes, **changes) -> Order:
    upload, _ = finetunes.upload(FILE)
    return Order(**{"model": "tiny", "upload": upload, "name": "mine", **changes})


def test_an_upload_is_counted_and_stored_under_a_random_name(finetunes, folder):
    ids = {finetunes.upload(FILE) for _ in range(2)}
    assert len(ids) == 2 and {count for _, count in ids} == {6}
    assert {path.name for path in folder.rglob("*") if path.is_file()} == {f"{id}.jsonl" for id, _ in ids}
    assert runs.all_runs() == []


@pytest.mark.parametrize("data", [b"", b"nonsense", b"[1, 2]", b"{}", b"\x00\xff", b"[" * 10_000])
def test_a_file_without_dialogues_is_refused_and_not_kept(finetunes, folder, data):
    with pytest.raises(DataError):
        finetunes.upload(data)
    assert list((folder / UPLOADS).iterdir()) == []


def test_uploads_that_no_run_uses_are_removed(finetunes, folder):
    for _ in range(MAX_UPLOADS + 3):
        finetunes.upload(FILE)
    assert len(list((folder / UPLOADS).iterdir())) == MAX_UPLOADS


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "a\\b", "/etc/x", ".hidden", "a\nb", "x" * 61, "-rf", "a.b", "~", "a\x00"]
)
def test_a_name_that_could_be_a_path_or_an_option_is_refused(finetunes, folder, name):
    with pytest.raises(RequestError, match="name of a run"):
        finetunes.start(order(finetunes, name=name))
    assert [path.name for path in folder.iterdir()] == [UPLOADS]


@pytest.mark.parametrize(
    "upload", ["", "../../etc/passwd", "0" * 31, "0" * 32, "g" * 32, "A" * 32, "*", "0" * 32 + "/../x"]
)
def test_only_an_upload_of_this_server_is_read(finetunes, upload):
    with pytest.raises(RequestError, match="drop a file"):
        finetunes.plan(order(finetunes, upload=upload))


@pytest.mark.parametrize("source", ["", "/etc", "../tiny", "someone/model", "tiny2", "os:system", "http://x"])
def test_only_a_model_of_the_list_is_trained(finetunes, source):
    with pytest.raises(RequestError, match="models in the list"):
        finetunes.plan(order(finetunes, model=source))


@pytest.mark.parametrize(
    "wrong", [{"method": "all"}, {"epochs": 0.0}, {"epochs": -1.0}, {"epochs": 1e9}, {"epochs": float("nan")}]
)
def test_methods_and_epochs_are_checked(finetunes, wrong):
    with pytest.raises(RequestError, match="method"):
        finetunes.plan(order(finetunes, **wrong))


def test_a_plan_has_method_memory_steps_and_time(finetunes):
    plan = finetunes.plan(order(finetunes, epochs=2.0))
    assert plan.choice.method == "full" and plan.num_dialogues == 6 and plan.steps >= 1
    assert 0 < plan.choice.bytes_needed < plan.free_bytes and plan.seconds > 0
    assert finetunes.plan(order(finetunes, epochs=20.0)).seconds > plan.seconds
    assert finetunes.plan(order(finetunes, method="lora")).config.method == "lora"


def test_models_of_runs_can_be_trained_further(finetunes, folder, model, tokenizer):
    for name, stage in (("done", "sft"), ("empty", "sft"), ("sweep", "ablate")):
        RunFolder.create(name, stage, {}).set_state("finished")
        if name != "empty":
            write_folder(model, tokenizer, folder / name / "model", chat=True)
    assert set(finetunes.sources()) == {"tiny", "done"}


def wait_for(condition, seconds: float = 100.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def state(name: str) -> str:
    return next((runs.state(run) for run in runs.all_runs() if runs.label(run) == name), "none")


@pytest.mark.slow
def test_a_run_is_started_watched_stopped_continued_and_talked_to(finetunes, service, folder):
    """All of it with the real command in a real process."""
    name = finetunes.start(order(finetunes, epochs=100.0))
    with pytest.raises(RequestError, match="in progress"):
        finetunes.start(order(finetunes, name="second"))
    assert is_starting(folder / name) and state(name) in ("none", "running")
    metrics = folder / name / "metrics.jsonl"
    wait_for(lambda: metrics.exists() and metrics.read_text().count("\n") > 0)
    assert not is_starting(folder / name) and "dialogues packed" in log_tail(folder / name, 100)
    finetunes.stop(name)
    wait_for(lambda: state(name) != "running")
    wait_for(lambda: finetunes._process.poll() is not None)
    assert state(name) in ("interrupted", "finished")
    if state(name) == "interrupted":
        assert can_resume(RunFolder.open(name))
        finetunes.resume(name)
    wait_for(lambda: state(name) == "finished")
    assert (folder / name / DATA).read_bytes() == FILE
    rows = json.loads((folder / name / "before_after.json").read_text())
    assert rows and all({"question", "expected", "before", "after"} == row.keys() for row in rows)
    assert any(row["before"] != row["after"] for row in rows)
    with pytest.raises(QianwenError, match="not running"):
        finetunes.stop(name)
    wait_for(lambda: finetunes._process.poll() is not None)
    with pytest.raises(RequestError, match="already"):
        finetunes.start(order(finetunes, name=name))


def failed_start(folder: Path, case: str) -> None:
    """What the process of a run leaves when it ends early."""
    (folder / "mine").mkdir(parents=True)
    (folder / "mine" / DATA).write_bytes(FILE)
    (folder / "mine" / LOG).write_text("not enough memory\n")
    if case != "before its record":
        run = RunFolder.create("mine", "sft", {"model": "tiny"})
        run.set_state("running" if case == "killed" else "failed", error="not enough memory")
        (run.path / ".lock").write_text("1")
    if case == "with empty metrics":
        (folder / "mine" / "metrics.jsonl").touch()
        (folder / "mine" / "checkpoints").mkdir()
    if case == "after a step":
        (folder / "mine" / "metrics.jsonl").write_text('{"step": 1}\n')
    if case == "with a checkpoint":
        (folder / "mine" / "checkpoints" / "1").mkdir(parents=True)
    if case == "with a model":
        (folder / "mine" / "model").mkdir()


@pytest.mark.parametrize(
    ("case", "is_free"),
    [
        ("before its record", True),
        ("before its first step", True),
        ("killed", True),
        ("with empty metrics", True),
        ("after a step", False),
        ("with a checkpoint", False),
        ("with a model", False),
    ],
)
def test_a_run_that_failed_before_its_first_step_frees_its_name(finetunes, folder, monkeypatch, case, is_free):
    failed_start(folder, case)
    monkeypatch.setattr(finetunes, "_spawn", lambda model, path, options: None)  # the process has a test of its own
    wanted = order(finetunes)
    if not is_free:
        with pytest.raises(RequestError, match="already"):
            finetunes.start(wanted)
        assert (folder / "mine" / LOG).exists(), "what it made is kept"
        return
    assert finetunes.start(wanted) == "mine"
    assert [path.name for path in (folder / "mine").iterdir()] == [DATA], "nothing of the failed start is left"


def test_a_name_is_not_free_while_its_run_is_starting(finetunes, folder):
    failed_start(folder, "before its record")
    with lock(folder / "mine"), pytest.raises(RequestError, match="already"):
        finetunes.start(order(finetunes))


def test_a_folder_that_was_not_made_here_is_never_removed(finetunes, folder):
    RunFolder.create("mine", "sft", {}).set_state("failed")
    with pytest.raises(RequestError, match="already"):
        finetunes.start(order(finetunes))
    assert (folder / "mine" / "run.json").exists()


def test_a_run_of_another_process_is_never_signalled(finetunes, folder):
    """The number in the record may belong to any process by now."""
    run = RunFolder.create("gone", "sft", {})
    run.set_state("running", pid=os.getppid())
    with pytest.raises(ConfigError, match="not running"):
        finetunes.stop("gone")
    with pytest.raises(RequestError, match="no run"):
        finetunes.stop("../gone")


def test_only_a_run_that_was_started_here_is_continued(finetunes, folder):
    RunFolder.create("other", "sft", {"model": "os:system"}).set_state("interrupted")
    for name in ("other", "none", "../other"):
        with pytest.raises(RequestError):
            finetunes.resume(name)


def test_the_log_of_a_run_is_cut(folder):
    (folder / "x").mkdir(parents=True)
    assert log_tail(folder / "x") == ""
    (folder / "x" / LOG).write_bytes(b"\xff" * 9000 + b"\n" + b"line\n" * 50)
    assert log_tail(folder / "x", 3) == "line\nline\nline"
