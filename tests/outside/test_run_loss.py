"""The loss that people read: the mean since the last line, on resuming too; its trend in a sentence; whole numbers."""

import re
from pathlib import Path
from typing import Any

import pytest

from qianwen.runtime.files import RunFolder
from qianwen.runtime.log import MetricsLog, displayed_metrics, metrics_line, read_metrics
from qianwen.runtime.runs import comparison, find_run
from qianwen.runtime.trend import smoothed, trend
from qianwen.serve.ui.curve import GAP, WIDTH, axis_labels, curve_svg
from qianwen.train.hooks import log_every

LOSSES = [(4.0, 10), (2.0, 30), (6.0, 20), (1.0, 5), (3.0, 7), (5.0, 11), (2.5, 3), (float("nan"), 9), (1.5, 4)]


class Plain:
    """The part of a `TrainState` that the hook reads and writes."""

    step = 0
    unlogged_loss, unlogged_items = 0.0, 0


def rows_of(path: Path, every: int, extra_at: int = 0, resume_at: int = 0) -> list[dict[str, Any]]:
    state: Any = Plain()
    last = len(LOSSES)
    hook = log_every(every, last, MetricsLog(path))
    for step, (loss, items) in enumerate(LOSSES, start=1):
        state.step = step
        metrics: dict[str, Any] = {"loss": loss, "lr": 0.1, "num_items": items, "num_tokens": 64, "seconds": 1.0}
        if step == extra_at:
            metrics["held_out_a"] = 1.0
        hook(state, metrics)
        if step == resume_at:  # a new process: only the state comes along
            hook = log_every(every, last, MetricsLog(path, resume_step=step))
    return read_metrics(path)


def mean(first: int, last: int) -> float:
    pairs = [(loss, items) for loss, items in LOSSES[first - 1 : last] if loss == loss]
    return sum(loss * items for loss, items in pairs) / sum(items for _, items in pairs)


@pytest.mark.parametrize("every", [1, 2, 3, 4, 100])
@pytest.mark.parametrize("resume_at", [0, 2, 5, 7])
def test_the_mean_covers_every_item_since_the_last_line(tmp_path: Path, every: int, resume_at: int) -> None:
    rows = rows_of(tmp_path / "m.jsonl", every, resume_at=resume_at)
    first = 1
    for row in rows:
        if first == row["step"] and LOSSES[first - 1][0] != LOSSES[first - 1][0]:
            assert "mean_loss" not in row  # the only loss was not finite
        else:
            assert row["mean_loss"] == pytest.approx(mean(first, row["step"]), rel=1e-12)
        expected = LOSSES[row["step"] - 1][0]
        assert row["loss"] == expected or row["loss"] is None  # the field keeps its meaning
        first = row["step"] + 1
    assert first == len(LOSSES) + 1


def test_a_line_between_two_lines_starts_a_new_mean(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "m.jsonl", 4, extra_at=3)
    assert [row["step"] for row in rows] == [1, 3, 4, 8, 9]
    assert rows[1]["mean_loss"] == pytest.approx(mean(2, 3)) and rows[2]["mean_loss"] == pytest.approx(mean(4, 4))


def test_everything_displays_the_mean_and_older_files_display_their_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    run = RunFolder.create("new", "sft", {})
    run.metrics_path.write_text('{"step": 1, "loss": 9.0, "mean_loss": 2.5, "time": 1}\n')
    old = RunFolder.create("old", "sft", {})
    old.metrics_path.write_text('{"step": 1, "loss": 9.0, "time": 1}\n')
    assert metrics_line({"step": 1, "loss": 9.0, "mean_loss": 2.5}).plain == "step 1  loss 2.5"
    assert [displayed_metrics(each.metrics_path)[0]["loss"] for each in (run, old)] == [2.5, 9.0]
    _, table = comparison([find_run("new"), find_run("old")])
    assert ["loss", 2.5, 9.0] in table


def held(*values: float, every: int = 400, name: str = "held_out") -> list[dict[str, Any]]:
    return [{"step": every * (i + 1), name: value, "loss": 9.0 - i} for i, value in enumerate(values)]


@pytest.mark.parametrize(
    ("rows", "sentence"),
    [
        (held(3.0, 2.5, 2.44, 2.38), "held-out −0.12 since step 800"),
        (held(3.0, 2.5, 2.44, 2.62), "held-out +0.12 since step 800 (lowest 2.44 at step 1,200)"),
        (held(3.0, 2.5), "held-out −0.5 since step 400"),
        (held(3.0, 3.0005), "held-out unchanged since step 400"),
        (held(2.0, 1.0, name="held_out_zh"), "held-out zh −1 since step 400"),
        (held(2.0), ""),
        ([], ""),
        ([{"step": 1, "sample": "text"}], ""),
        ([{"step": 1, "loss": None}, {"step": 2, "loss": None}], ""),
        ([{"step": 10, "loss": 4.0}, {"step": 20, "loss": 3.0}], "loss −1 since step 10"),
    ],
)
def test_a_sentence_says_how_it_goes(rows: list[dict[str, Any]], sentence: str) -> None:
    assert trend(rows) == sentence


def test_two_held_out_texts_are_two_parts_of_the_sentence() -> None:
    rows = [a | b for a, b in zip(held(2.0, 1.0, name="held_out_en"), held(2.0, 3.0, name="held_out_zh"), strict=True)]
    assert trend(rows) == "held-out en −1 since step 400; held-out zh +1 since step 400"


def test_smoothing_has_no_bias_at_the_start_and_follows_the_level() -> None:
    flat = smoothed([(i, 2.0) for i in range(100)])
    assert all(value == pytest.approx(2.0) for _, value in flat)
    noisy = smoothed([(i, 2.0 + (-1) ** i) for i in range(100)])
    assert abs(noisy[-1][1] - 2.0) < 0.2 and [step for step, _ in noisy] == list(range(100))
    assert smoothed([]) == [] and smoothed([(1, 3.0)]) == [(1, 3.0)]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (0.5, 4.0), (-1.2345e-5, 3e-4), (12345.1, 12345.9), (23440, 1234567), (1e-300, 1e300), (-5.5, 5.5),
        (2.0, 2.0), (0, 0), (999999.5, 1000000.5), (-123456789.0, 123456789.0), (3e-5, 3.00001e-5),
    ],
)  # fmt: skip
def test_numbers_at_the_axis_are_whole_and_differ(low: float, high: float) -> None:
    labels = axis_labels(low, high)
    assert labels[0] != labels[1]
    svg = curve_svg([(1, low), (2, high)])
    ends = [
        (float(x), text)
        for x, text in re.findall(r'<text x="([\d.]+)" y="[\d.]+" text-anchor="end">([^<]*)</text>', svg)
    ]
    for x, text in ends[:2]:
        assert x - 7.2 * len(text) >= 0, f"{text} is clipped"
    left = ends[0][0] + GAP
    assert left < WIDTH / 2


def test_the_raw_line_is_behind_the_smoothed_one() -> None:
    points = [(i, float(i % 3)) for i in range(30)]
    svg = curve_svg(points, smoothed(points))
    assert svg.index('class="raw"') < svg.index('class="line"')
    assert 'class="raw"' not in curve_svg(points)
