import json

from qianwen.cli import main
from qianwen.runtime.files import read_jsonl


def test_the_dialogues_are_written_with_their_counts(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    assert main(["data", "service", "--count", "20", "--groups", "calls", "search"]) == 0
    assert len(list(read_jsonl(tmp_path / "service" / "dialogues.jsonl"))) == 20
    assert json.loads((tmp_path / "service" / "counts.json").read_text())["languages"] == {"en": 10, "zh": 10}
    assert "search, two sources" in capsys.readouterr().out


def test_a_model_that_cannot_write_changes_nothing(model_folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path))
    command = ["data", "service", "--count", "2", "--groups", "calls", "--model", str(model_folder)]
    assert main(command) == 0 == main(command)
    out = capsys.readouterr().out
    assert "rewritten: 0 questions, 0 answers of 2 dialogues" in out
    rows = list(read_jsonl(tmp_path / "service" / "dialogues.jsonl"))
    drawn = list(read_jsonl(tmp_path / "service" / "drawn.jsonl"))
    assert [row["messages"] for row in rows] == [row["messages"] for row in drawn]


def test_it_says_what_it_cannot_do(capsys):
    assert main(["data", "service", "--count", "0"]) == 1
    assert "at least 1" in capsys.readouterr().err
    assert main(["data", "service", "--url", "http://127.0.0.1:9/v1"]) == 1
    assert "--url needs --model" in capsys.readouterr().err
