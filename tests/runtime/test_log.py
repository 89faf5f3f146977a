"""Metrics on the console and on the disk, and progress."""

import io
import json

import pytest
import torch
from rich.console import Console

from qianwen.runtime import log
from qianwen.runtime.log import MetricsLog, progress, read_metrics


def test_one_line_on_the_console_and_one_on_the_disk(tmp_path, capsys):
    MetricsLog(tmp_path / "new" / "metrics.jsonl").log(
        step=1200, loss=torch.tensor(2.34567), lr=3e-4, tokens=1_000_000, kind="sft"
    )
    assert capsys.readouterr().out == "step 1,200  loss 2.346  lr 0.0003  tokens 1,000,000  kind sft\n"
    (row,) = read_metrics(tmp_path / "new" / "metrics.jsonl")
    assert row.pop("time") > 0
    assert row == {"step": 1200, "loss": pytest.approx(2.34567), "lr": 3e-4, "tokens": 1_000_000, "kind": "sft"}


def test_what_json_cannot_say_is_null_on_the_disk_and_visible_on_the_console(tmp_path, capsys):
    MetricsLog(tmp_path / "m.jsonl").log(step=1, loss=float("nan"), grad_norm=float("inf"))
    assert capsys.readouterr().out == "step 1  loss nan  grad_norm inf\n"
    text = (tmp_path / "m.jsonl").read_text()
    assert "NaN" not in text and json.loads(text)["loss"] is None


def test_a_resumed_run_forgets_later_steps_and_a_torn_line(tmp_path):
    path = tmp_path / "m.jsonl"
    first = MetricsLog(path)
    for step in range(5):
        first.log(step=step, loss=1.0)
    with path.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2, 3, 4]
    MetricsLog(path, resume_step=2).log(step=3, loss=2.0)
    assert [row["step"] for row in read_metrics(path)] == [0, 1, 2, 3]
    assert len(path.read_text().splitlines()) == 4


def test_only_the_main_process_writes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(log, "is_main", lambda: False)
    MetricsLog(tmp_path / "m.jsonl").log(step=1, loss=1.0)
    assert not (tmp_path / "m.jsonl").exists() and capsys.readouterr().out == ""


def test_a_file_that_is_not_there_has_no_metrics(tmp_path):
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_progress_elsewhere_is_one_closing_line(capsys):
    assert list(progress(iter("abc"), None, "reading")) == ["a", "b", "c"]
    assert capsys.readouterr().out.startswith("reading: 3 in 0.0 s")


def test_a_terminal_gets_colour_and_a_pipe_does_not(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for terminal in (True, False):
        screen = io.StringIO()
        monkeypatch.setattr(log, "console", Console(file=screen, force_terminal=terminal))
        log.console.print(log.metrics_line({"step": 1}))
        assert list(progress(range(3), 3, "reading")) == [0, 1, 2]
        assert ("\x1b[" in screen.getvalue()) is terminal
