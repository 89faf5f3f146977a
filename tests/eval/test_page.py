"""The page of a folder: nothing of a model's answer acts, the counts are right, the filters need no script."""

import json
from pathlib import Path

import pytest

from qianwen.eval.contamination import CONTAMINATION
from qianwen.eval.page import write_page
from qianwen.eval.results import RESULTS
from qianwen.runtime.errors import DataError

from ..runtime.test_page import ALLOWED, HOSTILE, Reader
from .conftest import row, write_results


@pytest.mark.parametrize("word", HOSTILE)
def test_hostile_answers_stay_text(tmp_path: Path, word: str) -> None:
    changes = {"prompt": [word, word], "facts": {word: word}, "answer": {"text": word, "further": [{"text": word}]}}
    rows = [row(0, 0, **changes), row(1, None, error=word), row(2, 1, name=word)]
    text = write_page(write_results(tmp_path / "r", {"task": rows}, settings={"": {"url": word}})).read_text("utf-8")
    reader = Reader(text)
    assert {tag for tag, _ in reader.tags} <= set(ALLOWED.split())
    attributes = [(name, value or "") for _, attrs in reader.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("style", "srcdoc", "action")]
    allowed = ("#s", "data:image/svg+xml;base64,", "./answers/")
    assert all(value.startswith(allowed) for name, value in attributes if name in ("href", "src", "srcset"))


def test_numbers_settings_examples_and_the_file_are_there(tmp_path: Path) -> None:
    rows = [row(i, i % 4 == 0) for i in range(200)]
    folder = write_results(tmp_path / "my-model", {"mmlu": rows}, settings={"mmlu": {"seed": 17}}, chance=0.25)
    text = write_page(folder).read_text("utf-8")
    reader = Reader(text)
    for word in ("my-model", "0.25 acc", "seed", "17", "wrong (150)", "right (50)", "question 1", "chance", "4 bits"):
        assert word in reader.text, word
    assert "./answers/mmlu.jsonl" in [attrs.get("href") for tag, attrs in reader.tags if tag == "a"]
    assert "50 of 200 examples are below" in reader.text and "<script" not in text
    assert len(text) < 400_000


def test_published_rows_are_beside_a_task_that_has_some(tmp_path: Path) -> None:
    rows = [row(i, i % 2) for i in range(10)]
    with_table = write_page(write_results(tmp_path / "a", {"ceval": rows})).read_text("utf-8")
    without = write_page(write_results(tmp_path / "b", {"questions": rows})).read_text("utf-8")
    assert "Beside published results" in with_table and "ours: 10 examples" in with_table
    assert "Beside published results" not in without


def test_contaminated_examples_have_their_table(tmp_path: Path) -> None:
    folder = write_results(tmp_path / "a", {"mmlu": [row(i, i % 2) for i in range(10)]})
    saved = {
        "corpus": "web", "task": "mmlu", "num_examples": 10, "indices": [1, 3], "num_too_short": 2,
        "clean": {"acc": [0.375, 0.1, 0.7, 8]},
    }  # fmt: skip
    (folder / CONTAMINATION).write_text(json.dumps({"mmlu": saved}))
    text = Reader(write_page(folder).read_text("utf-8")).text
    assert "Examples in the training corpus" in text and "25.0% (2)" in text and "0.375" in text


def test_a_task_in_which_every_example_failed_has_a_section(tmp_path: Path) -> None:
    text = write_page(write_results(tmp_path / "a", {"mmlu": [row(0, None)]})).read_text("utf-8")
    assert "error (1)" in text and "too long" in text


def test_a_folder_without_results_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=RESULTS):
        write_page(tmp_path)


def test_a_task_with_a_grid_has_a_heat_map_on_the_page_and_as_a_file(tmp_path: Path) -> None:
    rows = [row(n, n % 2, facts={"language": "en", "depth": 10 * n, "length": 1024}) for n in range(3)]
    settings = {"needle": {"grid": {"by": "language", "rows": "depth", "columns": "length"}}}
    path = write_page(write_results(tmp_path, {"needle": rows}, settings=settings))
    assert "needle en: acc in percent" in path.read_text("utf-8")
    assert "length in tokens" in (tmp_path / "needle-en.svg").read_text("utf-8")
