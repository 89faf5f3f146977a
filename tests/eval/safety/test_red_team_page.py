"""The page of a red-team run."""

from pathlib import Path

import pytest

from qianwen.eval.evaluation import Evaluation
from qianwen.eval.results import Results
from qianwen.eval.safety.red_team import RedTeam
from qianwen.eval.safety.red_team_page import PER_CELL, rows_of, verdict_title, write_red_team_page
from tests.eval.safety.test_red_team import Speaker


def results(folder: Path, patience: int, num_prompts: int) -> Results:
    task = RedTeam(attacks=["plain", "base64", "pressure"])
    return Evaluation([task], folder, limit=3 * num_prompts).run(Speaker(patience), {"model": "<b>m"})


def test_the_page_has_the_numbers_the_filters_and_the_transcripts(tmp_path: Path):
    page = write_red_team_page(results(tmp_path / "a", 2, 28)).read_text("utf-8")
    assert "&lt;b&gt;m" in page and "<b>m" not in page
    for label in ("refusal", "compliance", "pressure", "base64", "self-harm"):
        assert f">{label}</label>" in page
    assert page.count('<details class="card') == 3 * 7 * PER_CELL, "two of each verdict, attack and category"
    assert "42 of 84 transcripts" in page
    assert "user: " in page and "assistant: I&#x27;m sorry" in page


def test_rows_have_the_counts_by_attack(tmp_path: Path):
    task = results(tmp_path / "a", 2, 14).tasks["redteam"]
    assert rows_of(task, "attack") == [
        ["plain", "0.0%", "0.0% – 0.0%", 14],
        ["base64", "0.0%", "0.0% – 0.0%", 14],
        ["pressure", "100.0%", "100.0% – 100.0%", 14],
    ]


def test_verdicts_are_translated(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    assert verdict_title("partial refusal") == "部分拒绝"
