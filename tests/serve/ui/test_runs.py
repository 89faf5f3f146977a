"""The runs page shows the run folders, escapes their text, and sends nothing twice."""

import base64
import html
import json
import os
import re

import pytest

gradio = pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from qianwen.runtime.files import RunFolder, lock  # noqa: E402
from qianwen.serve.ui import runs  # noqa: E402

ATTACK = "<script>hit(1)</script><img src=x onerror=hit(2)>"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


def log(run: RunFolder, *rows: dict) -> None:
    with run.metrics_path.open("a") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)


def test_without_runs_the_page_says_how_to_create_one(folder):
    listing, view, _, *_ = runs.refresh(None, None)
    assert listing["choices"] == [] and "qianwen demo" in view


def test_a_running_run_is_updated_and_an_unchanged_one_is_not_sent_again(folder):
    run = RunFolder.create("mine", "pretrain", {"loop": {"steps": 9}})
    with lock(run.path):
        listing, view, seen, *_ = runs.refresh(None, None)
        assert listing["choices"] == [("mine · running", "mine")] and listing["value"] == "mine"
        assert "<img" not in view and "two logged steps" in view

        log(
            run, {"step": 1, "loss": 3.0, "time": 1.0}, {"step": 2, "loss": 2.5, "eta": "0:01:00", "sample": "Once <b>"}
        )
        listing, view, seen, *_ = runs.refresh("mine", seen)
        assert view.count("<img") == 1 and "loss over steps; last value 2.5" in view and "0:01:00" in view
        assert "Once &lt;b&gt;" in view and "loop.steps" in view and "loss −0.5 since step 1" in html.unescape(view)
        assert runs.refresh("mine", seen) == (gradio.skip(),) * 6

    run.set_state("finished")
    listing, view, _, *_ = runs.refresh("mine", seen)
    assert listing["choices"] == [("mine · finished", "mine")] and "finished" in view


def test_the_loss_is_the_mean_since_the_last_row_smoothed_over_the_raw_line(folder):
    run = RunFolder.create("mine", "sft", {})
    log(run, *({"step": i, "loss": 9.0, "mean_loss": 2.0 + i % 2, "lr": 0.1} for i in range(1, 9)))
    view = runs.run_html(run)
    drawings = [base64.b64decode(data).decode() for data in re.findall('base64,([^"]+)', view)]
    assert (
        "loss over steps; last value 2" in view
        and "mean_loss" not in view
        and "9" not in re.sub("<img[^>]*>", "", view)
    )
    assert 'class="raw"' in drawings[0] and 'class="raw"' not in drawings[1]


def test_the_most_important_curves_come_first(folder):
    run = RunFolder.create("mine", "pretrain", {})
    log(run, *({"step": i, "zeta": 1.0, "lr": 0.1, "held_out_log": 2.0, "loss": 3.0} for i in (1, 2)))
    names = re.findall(r"<figcaption>(\w+)", runs.run_html(run))
    assert names == ["loss", "held_out_log", "lr", "zeta"]


def test_all_text_of_a_run_is_escaped(folder):
    run = RunFolder.create(folder / "a<script>hit(0)<", "pretrain", {ATTACK: ATTACK, "lines": "a\n\n# b"})
    log(run, *({"step": i, ATTACK: 1.0, "sample": ATTACK + "\n\n# b\n$$x$$"} for i in (1, 2)))
    (run.path / "report.html").write_text("x")
    view = runs.run_html(run)
    assert "\n" not in view, "a line break would hand the rest to Markdown"
    tags = set(re.findall(r"<([a-z0-9]+)", view))
    assert tags.isdisjoint(
        {"script", "svg", "iframe", "object", "embed", "style", "form", "input", "base", "meta", "link"}
    )
    assert len(re.findall("<img ", view)) == view.count('src="data:image/svg+xml;base64,') == 1
    assert html.escape(ATTACK) in view


def test_damaged_and_deleted_runs(folder):
    RunFolder.create("good", "pretrain", {})
    (folder / "bad").mkdir()
    (folder / "bad" / "run.json").write_text("{")
    listing, view, _, *_ = runs.refresh("bad", None)
    assert ("bad · damaged", "bad") in listing["choices"] and "damaged" in view
    listing, _, _, *_ = runs.refresh("no such run", None)
    assert listing["value"] in ("good", "bad")
    assert os.listdir(folder / "bad") == ["run.json"]


def visible(*arguments) -> list[bool]:
    """Which of the buttons are visible: talk, stop, continue."""
    return [update["visible"] for update in runs.refresh(*arguments)[3:]]


def test_each_state_has_its_buttons(folder, monkeypatch):
    run = RunFolder.create("mine", "sft", {})
    with lock(run.path):
        assert visible("mine", None) == [False, True, False]
    (run.path / "data.jsonl").write_text("{}")
    run.set_state("interrupted")
    assert visible("mine", None) == [False, False, True]
    run.set_state("finished")
    assert visible("mine", None) == [False, False, False], "it has no model"
    monkeypatch.setattr(runs, "model_path", lambda run: run.path / "model")
    assert visible("mine", None) == [True, False, False]
    assert visible(None, None) == [True, False, False]


def test_a_run_that_is_being_started_is_displayed_with_its_output(folder):
    RunFolder.create("older", "sft", {})
    (folder / "new").mkdir()
    (folder / "new" / "log.txt").write_text("reading <weights>\n")
    listing, view, *_ = runs.refresh("new", None)
    assert listing["value"] == "new" and [value for _, value in listing["choices"]] == ["new", "older"]
    assert "reading &lt;weights&gt;" in view and "no record yet" in view
    RunFolder.create("new", "sft", {})
    assert "no record yet" not in runs.refresh("new", None)[1]
    listing, *_ = runs.refresh("../new", None)
    assert listing["value"] in ("new", "older")


def test_the_answers_before_and_after_are_displayed_and_escaped(folder):
    run = RunFolder.create("mine", "sft", {})
    rows = [{"question": ATTACK, "expected": "a\n\n# b", "before": "x" * 5000, "after": "<b>"}, {"question": "only"}]
    (run.path / "before_after.json").write_text(json.dumps(rows))
    view = runs.run_html(run)
    assert html.escape(ATTACK) in view and "before training" in view and "\n" not in view and "x" * 700 not in view
    for damaged in ("{", "[1]", "null", '{"question": 1}'):
        (run.path / "before_after.json").write_text(damaged)
        assert "before training" not in runs.run_html(run)
