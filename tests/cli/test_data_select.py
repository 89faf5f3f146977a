"""`qianwen data select` with a random model: what is written, what is printed, and that tagging continues."""

from pathlib import Path

import pytest

from qianwen.align.dialogues import read_dialogues
from qianwen.cli import main
from qianwen.runtime.files import read_jsonl, write_jsonl

QUESTIONS = ["Write a poem.", "What is 2 + 3?", "杭州今天的天气怎么样？", "Write a poem!", "Sort a list in Python."]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ({"instruction": each, "output": "yes", "id": n} for n, each in enumerate(QUESTIONS)))
    return path


def test_clusters_choose_rows_of_the_file_without_near_duplicates(rows, model_folder, tmp_path, capsys):
    out = tmp_path / "out.jsonl"
    command = ["data", "select", str(rows), "--model", str(model_folder), "--out", str(out), "--by", "clusters"]
    assert main([*command, "--budget", "9", "--clusters", "3"]) == 0
    chosen = list(read_jsonl(out))
    assert [row["id"] for row in chosen] in ([0, 1, 2, 4], [1, 2, 3, 4]) and len(list(read_dialogues(out))) == 4
    printed = capsys.readouterr().out
    assert "4 of 5 dialogues" in printed and "1  near duplicates" in printed


def test_tags_are_written_beside_the_output_and_not_requested_again(rows, model_folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("qianwen.align.choosing.tags.MAX_TOKENS", 8)  # too few for any tag
    out = tmp_path / "new" / "out.jsonl"
    command = ["data", "select", str(rows), "--model", str(model_folder), "--out", str(out), "--budget", "2"]
    assert main(command) == 0
    tags = Path(f"{out}.tags.jsonl")
    before = tags.read_bytes()
    assert before.count(b"\n") == len(QUESTIONS) and not list(read_jsonl(out))
    assert "5  without a tag" in capsys.readouterr().out
    write_jsonl(tags, [{**row, "tags": ["poem" if n in (0, 3) else "x"]} for n, row in enumerate(read_jsonl(tags))])
    assert main(command) == 0
    assert len(list(read_jsonl(out))) == 2 and tags.read_bytes().count(b"\n") == len(QUESTIONS)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--budget", "0"], "at least 1"),
        (["--budget", "1", "--by", "clusters", "--url", "http://127.0.0.1:1/v1"], "runs here"),
        (["--budget", "1", "--out", "ROWS"], "choose another name"),
    ],
)
def test_it_says_what_it_cannot_do(rows, options, reason, capsys):
    command = ["data", "select", str(rows), "--model", "m", "--out", "o.jsonl", *options]
    assert main([str(rows) if part == "ROWS" else part for part in command]) == 1
    assert reason in capsys.readouterr().err
