"""`qianwen data reject` with a model that knows nothing: the yield is honest about it."""

import json

from qianwen.cli import main
from qianwen.runtime.files import write_jsonl


def test_reject_samples_counts_and_resumes(model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    write_jsonl(tmp_path / "problems.jsonl", [{"question": f"{n} + 1?", "answer": f"#### {n + 1}"} for n in range(3)])
    argv = ["data", "reject", str(model_folder), "--problems", str(tmp_path / "problems.jsonl"), "--samples", "2"]
    assert main([*argv, "--max-tokens", "4"]) == 0
    samples = (tmp_path / "runs" / "rft" / "samples.jsonl").read_text()
    counts = json.loads((tmp_path / "runs" / "rft" / "yield.json").read_text())
    assert samples.count("\n") == counts["samples"] == 6 and counts["right"] + counts["cut short"] <= 6
    assert "share right" in capsys.readouterr().out
    assert main([*argv, "--max-tokens", "4"]) == 0  # nothing is left to draw
    assert (tmp_path / "runs" / "rft" / "samples.jsonl").read_text() == samples
    assert main([*argv, "--max-tokens", "5"]) == 1
    assert "max_tokens" in capsys.readouterr().err


def test_it_says_what_it_cannot_do(model_folder, tmp_path, capsys):
    assert main(["data", "reject", str(model_folder), "--problems", str(tmp_path / "none.jsonl")]) == 1
    assert "none.jsonl" in capsys.readouterr().err
    assert main(["data", "reject", "m", "--problems", "p", "--samples", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err
