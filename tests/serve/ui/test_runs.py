"""The runs page tells what the folders tell, escapes what they hold, and says nothing twice."""

import html
import json
import os
import re

import pytest

gradio = pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from qianwen.runtime.files import RunFolder  # noqa: E402
from qianwen.serve.ui import runs  # noqa: E402

ATTACK = "<script>hit(1)</script><img src=x onerror=hit(2)>"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def log(run: RunFolder, *rows: dict) -> None:
    with run.metrics_path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_without_runs_it_says_how_to_make_one(folder):
    listing, shown, _ = runs.refreshed(None, None)
    assert listing["choices"] == [] and "qianwen demo" in shown


def test_a_running_run_grows_and_an_unchanged_one_is_not_sent_again(folder):
    run = RunFolder.create("mine", "pretrain", {"loop": {"steps": 9}})
    listing, shown, seen = runs.refreshed(None, None)
    assert listing["choices"] == [("mine · running", "mine")] and listing["value"] == "mine"
    assert "<img" not in shown and "two logged steps" in shown

    log(run, {"step": 1, "loss": 3.0, "time": 1.0}, {"step": 2, "loss": 2.5, "eta": "0:01:00", "sample": "Once <b>"})
    listing, shown, seen = runs.refreshed("mine", seen)
    assert shown.count("<img") == 1 and "loss over steps, now 2.5" in shown and "0:01:00" in shown
    assert "Once &lt;b&gt;" in shown and "loop.steps" in shown
    assert runs.refreshed("mine", seen) == (gradio.skip(),) * 3

    run.set_state("finished")
    listing, shown, _ = runs.refreshed("mine", seen)
    assert listing["choices"] == [("mine · finished", "mine")] and "finished" in shown


def test_what_a_reader_looks_for_comes_first(folder):
    run = RunFolder.create("mine", "pretrain", {})
    log(run, *({"step": i, "zeta": 1.0, "lr": 0.1, "held_out_log": 2.0, "loss": 3.0} for i in (1, 2)))
    names = re.findall(r"<figcaption>(\w+)", runs.run_shown(run))
    assert names == ["loss", "held_out_log", "lr", "zeta"]


def test_nothing_a_run_wrote_is_markup(folder):
    run = RunFolder.create(folder / "a<script>hit(0)<", "pretrain", {ATTACK: ATTACK, "lines": "a\n\n# b"})
    log(run, *({"step": i, ATTACK: 1.0, "sample": ATTACK + "\n\n# b\n$$x$$"} for i in (1, 2)))
    (run.path / "report.html").write_text("x")
    shown = runs.run_shown(run)
    assert "\n" not in shown, "a line break would hand the rest to Markdown"
    tags = set(re.findall(r"<([a-z0-9]+)", shown))
    assert tags.isdisjoint(
        {"script", "svg", "iframe", "object", "embed", "style", "form", "input", "base", "meta", "link"}
    )
    assert len(re.findall("<img ", shown)) == shown.count('src="data:image/svg+xml;base64,') == 1
    assert html.escape(ATTACK) in shown


def test_damaged_and_vanished_runs_are_told(folder):
    RunFolder.create("good", "pretrain", {})
    (folder / "bad").mkdir()
    (folder / "bad" / "run.json").write_text("{")
    listing, shown, _ = runs.refreshed("bad", None)
    assert ("bad · damaged", "bad") in listing["choices"] and "damaged" in shown
    listing, _, _ = runs.refreshed("no such run", None)
    assert listing["value"] in ("good", "bad")
    assert os.listdir(folder / "bad") == ["run.json"]
