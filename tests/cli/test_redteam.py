"""`qianwen redteam` on a small random model, which cannot refuse."""

from pathlib import Path

import pytest

from qianwen.cli import main
from qianwen.eval.results import load_results


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))


def test_a_table_a_page_and_transcripts_come_out_and_more_prompts_join(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    argv = ["redteam", str(model_folder), "--attacks", "plain", "base64", "--categories", "bias"]
    assert main([*argv, "--limit", "1"]) == 0
    out = capsys.readouterr().out
    assert "compliance" in out and "bias and hate" in out and "base64" in out
    (folder,) = (tmp_path / "runs" / "redteam").iterdir()
    assert (folder / "redteam.html").exists()
    first = load_results(folder).tasks["redteam"].rows
    assert [row["facts"]["attack"] for row in first] == ["plain", "base64"]
    assert main([*argv, "--limit", "2"]) == 0
    rows = load_results(folder).tasks["redteam"].rows
    assert len(rows) == 4 and rows[:2] == first, "earlier answers stay"
    assert main([*argv, "--limit", "2", "--seed", "1"]) == 1
    assert "seed" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["m", "--categories", "arson"], "no category arson"),
        (["m", "--attacks", "rhyme"], "no attack rhyme"),
        (["m", "--languages", "fr"], "no prompts in fr"),
        (["m", "--limit", "-1"], "0 or more; got -1"),
        (["m", "--name", "x"], "behind a URL"),
        (["http://127.0.0.1:1/v1"], "needs --name"),
    ],
)
def test_wrong_options_are_refused_before_a_model_is_loaded(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["redteam", *argv]) == 1
    assert message in capsys.readouterr().err
