"""The demo end to end, in its smallest form: it runs, goes on, notices changes, and tells what it did."""

import dataclasses
import json
import re
from pathlib import Path

import pytest

from qianwen.checkpoints.load import load_model
from qianwen.data.curate.corpus import CorpusConfig
from qianwen.demo import stages as demo_module
from qianwen.demo.findings import evaluation
from qianwen.demo.stages import DemoConfig, run_demo
from qianwen.recipes import tiny
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder, verify_folder

STAGES = ["text", "tokenizer", "pretrain", "before", "sft", "after", "report"]


def small(name: str, source: Path) -> DemoConfig:
    """`quick`, smaller still, on the text at `source`."""
    config = tiny.quick(name, str(source))
    text = dataclasses.replace(config.text, corpus=CorpusConfig(held_out=0.2), num_sums=64, num_questions=2)
    return dataclasses.replace(config, text=text, vocab_size=512)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoConfig]:
    """A folder of runs in which a tiny demo has run, and its configuration."""
    folder = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("QIANWEN_RUNS", str(folder / "runs"))
        (folder / "text").mkdir()
        things = [f"Thing{i} is a made-up thing of kind number {i}. It has no other use." for i in range(200)]
        for i in range(0, 200, 4):
            (folder / "text" / f"{i}.txt").write_text("\n\n".join(things[i : i + 4]), encoding="utf-8")
        config = small("demo", folder / "text")
        run_demo(config)
    return folder, config


@pytest.fixture(autouse=True)
def _runs(finished: tuple[Path, DemoConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIANWEN_RUNS", str(finished[0] / "runs"))


def test_every_stage_is_there_and_whole(finished: tuple[Path, DemoConfig]) -> None:
    run = RunFolder.open("demo")
    assert run.record["state"] == "finished" and list(run.record["seconds"]) == STAGES
    for name in ("text", "tokenizer", "before", "after", "model", "pretrain/model", "sft/model"):
        verify_folder(run.path / name)
    assert load_model("demo").chat and RunFolder.open(run.path / "sft").record["state"] == "finished"


def test_the_report_shows_what_was_measured(finished: tuple[Path, DemoConfig]) -> None:
    root = finished[0] / "runs" / "demo"
    page = (root / "report.html").read_text(encoding="utf-8")
    header, rows = evaluation(root)
    assert {row[0] for row in rows} == {"text", "questions"} and all(len(row) == len(header) for row in rows)
    bits = next(row for row in rows if row[:2] == ["text", "bits_per_byte"])
    assert f"{bits[3]:.4g}" in page and bits[4] in page
    xz = json.loads((root / "before" / "facts.json").read_text())["baselines"]["xz -9"]
    assert f"{xz:.3f}".rstrip("0") in page and page.count("<img") == 3 and "<script" not in page
    assert not re.search(r"\bNone\b|\bnan\b", re.sub(r"<pre.*?</pre>|src(set)?=\"[^\"]*\"", "", page, flags=re.S))


def test_again_makes_nothing_again(finished: tuple[Path, DemoConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("made again")

    for name in ("build_text", "train_vocabulary", "pretrain", "Evaluation", "sft"):
        monkeypatch.setattr(demo_module, name, never)
    assert run_demo(finished[1]) == finished[0] / "runs" / "demo"


def test_interrupted_it_goes_on(finished: tuple[Path, DemoConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    config = small("other", finished[0] / "text")

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(demo_module, "pretrain", interrupt)
        run_demo(config)
    run = RunFolder.open("other")
    assert run.record["state"] == "interrupted" and list(run.record["seconds"]) == STAGES[:3]
    before = (run.path / "text" / "manifest.json").stat().st_mtime_ns
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(demo_module, "sft", interrupt)
        run_demo(config)
    assert list(RunFolder.open("other").record["seconds"]) == STAGES[:5]
    assert (run.path / "text" / "manifest.json").stat().st_mtime_ns == before


def test_other_settings_under_the_same_name_are_refused(finished: tuple[Path, DemoConfig]) -> None:
    with pytest.raises(ConfigError, match="vocab_size = 512, not 640"):
        run_demo(dataclasses.replace(finished[1], vocab_size=640))


def test_changed_text_starts_the_training_over(finished: tuple[Path, DemoConfig]) -> None:
    folder, config = finished
    old = verify_folder(folder / "runs" / "demo" / "pretrain" / "model")
    (folder / "text" / "new.txt").write_text("Novelty is a new thing that was not there before. " * 40)
    run_demo(config)
    assert verify_folder(folder / "runs" / "demo" / "pretrain" / "model") != old
