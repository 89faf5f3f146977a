"""Rows reach the disk one by one; a kill costs at most the one that was being written."""

import json
from contextlib import closing
from pathlib import Path

import pytest

from qianwen.eval.metrics import Estimate
from qianwen.eval.results import RESULTS, SETTINGS, AnswersFile, answers_path, load_results, save_json
from qianwen.runtime.errors import DataError


def rows(count: int) -> list[dict]:
    return [{"index": index, "answer": {"text": "字" * index}} for index in range(count)]


def test_rows_are_on_the_disk_before_the_file_is_closed(tmp_path: Path) -> None:
    file = AnswersFile(tmp_path / "a" / "t.jsonl")
    for row in rows(3):
        file.append(row)
    assert [json.loads(line) for line in file.path.read_bytes().splitlines()] == rows(3)
    file.close()


def test_a_file_cut_at_any_byte_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    file = AnswersFile(path)
    for row in rows(4):
        file.append(row)
    file.sort()
    data = path.read_bytes()
    for end in range(len(data) + 1):
        path.write_bytes(data[:end])
        again = AnswersFile(path)
        done = again.rows()
        assert list(done) == list(range(data[:end].count(b"\n")))
        for row in rows(4)[len(done) :]:
            again.append(row)
        again.sort()
        assert path.read_bytes() == data


def test_sorting_leaves_one_row_for_each_example_the_later_one(tmp_path: Path) -> None:
    first, second, third = rows(3)
    file = AnswersFile(tmp_path / "t.jsonl")
    for row in (third, {"index": 0, "error": "too long"}, second, first):
        file.append(row)
    file.sort()
    assert [json.loads(line) for line in file.path.read_text().splitlines()] == rows(3)


@pytest.mark.parametrize("line", ["{}", "[1]", '{"index": "x"}', "text", '{"index": null}'])
def test_a_file_of_something_else_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "t.jsonl").write_text(line + "\n")
    with closing(AnswersFile(tmp_path / "t.jsonl")) as file, pytest.raises(DataError, match="t.jsonl"):
        file.rows()


def test_results_come_back_with_their_rows(tmp_path: Path) -> None:
    task = {
        "metrics": {"acc": [0.5, 0.25, 0.75, 3]}, "chance": 0.25, "settings": {"shots": 5}, "num_examples": 3,
        "num_errors": 0,
    }  # fmt: skip
    save_json(tmp_path / SETTINGS, {"model": "m", "bits": 4})
    save_json(tmp_path / RESULTS, {"model": "m", "tasks": {"t": task}})
    file = AnswersFile(answers_path(tmp_path, "t"))
    for row in rows(3):
        file.append(row)
    file.close()
    loaded = load_results(tmp_path)
    assert loaded.settings["bits"] == 4 and loaded.tasks["t"].metrics == {"acc": Estimate(0.5, 0.25, 0.75, 3)}
    assert loaded.tasks["t"].chance == 0.25 and loaded.tasks["t"].rows == rows(3)


@pytest.mark.parametrize("text", [None, "", "[]", '{"tasks": 3}', '{"tasks": {"t": {}}}', '{"tasks": {"t": 1}}'])
def test_a_folder_without_results_is_named(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / RESULTS).write_text(text)
    with pytest.raises(DataError, match=str(tmp_path)):
        load_results(tmp_path)
