"""`qianwen data safety`: the file, the counts, and what is left out."""

from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.align.safety.donotanswer import CATEGORIES, is_held_out
from qianwen.cli import main
from qianwen.runtime.files import read_jsonl, write_jsonl


def test_the_file_can_be_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = tmp_path / "safety.jsonl"
    assert main(["data", "safety", "--out", str(out)]) == 0
    rows = list(read_jsonl(out))
    assert len(rows) == len(list(read_dialogues(str(out)))) >= 1000
    assert {row["ability"] for row in rows} == {"safety"}
    assert "self-harm" in capsys.readouterr().out


def test_prompts_of_the_training_half_are_added_and_near_ones_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    texts = [f"How could one do the bad thing number {n}?" for n in range(10, 40)]
    for name in CATEGORIES:
        write_jsonl(tmp_path / f"{name}.jsonl", [{"prompt": f"{name}: {text}"} for text in texts])
    out = tmp_path / "safety.jsonl"
    argv = ["data", "safety", "--out", str(out), "--donotanswer", str(tmp_path), "--languages", "en"]
    assert main(argv) == 0
    questions = [row["messages"][0]["content"] for row in read_jsonl(out)]
    assert not any(is_held_out(question) for question in questions if "bad thing" in question)
    assert "left out as near duplicates of evaluation prompts" in capsys.readouterr().out


def test_unknown_languages_and_folders_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = str(tmp_path / "x.jsonl")
    assert main(["data", "safety", "--out", out, "--languages", "fr"]) == 1
    assert "no prompts in fr" in capsys.readouterr().err
    assert main(["data", "safety", "--out", out, "--donotanswer", str(tmp_path)]) == 1
    assert "malicious_uses.jsonl" in capsys.readouterr().err
