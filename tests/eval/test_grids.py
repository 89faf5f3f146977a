"""Cells of two facts from the rows of a folder."""

from pathlib import Path

from qianwen.eval.grids import grids
from qianwen.eval.results import load_results

from .conftest import row, write_results

GRID = {"needle": {"grid": {"by": "language", "rows": "depth", "columns": "length"}}}


def cell(index: int, amount: float | None, language: str, depth: int, length: int) -> dict:
    return row(index, amount, facts={"language": language, "depth": depth, "length": length})


def test_a_grid_has_the_mean_of_each_cell_and_there_is_one_for_each_language(tmp_path: Path) -> None:
    rows = [
        cell(0, 1, "en", 100, 2048),
        cell(1, 0, "en", 100, 2048),
        cell(2, 1, "en", 0, 1024),
        cell(3, None, "en", 0, 2048),
        cell(4, 0, "zh", 0, 1024),
    ]
    english, chinese = grids(load_results(write_results(tmp_path, {"needle": rows}, settings=GRID)).tasks["needle"])
    assert (english.title, english.metric, english.rows, english.columns) == (
        "needle en",
        "acc",
        (0, 100),
        (1024, 2048),
    )
    assert english.cells == {(100, 2048): 0.5, (0, 1024): 1.0}, "an error is no cell"
    assert (chinese.title, chinese.cells) == ("needle zh", {(0, 1024): 0.0})


def test_names_stay_in_the_order_of_the_examples(tmp_path: Path) -> None:
    settings = {"ruler": {"grid": {"by": "", "rows": "kind", "columns": "length"}}}
    rows = [row(n, 1, facts={"kind": kind, "length": 8}) for n, kind in enumerate(["passkey", "a", "passkey"])]
    (grid,) = grids(load_results(write_results(tmp_path, {"ruler": rows}, settings=settings)).tasks["ruler"])
    assert (grid.title, grid.rows) == ("ruler", ("passkey", "a"))


def test_a_task_without_such_facts_or_without_an_answer_has_none(tmp_path: Path) -> None:
    results = load_results(write_results(tmp_path, {"mmlu": [row(0, 1)]}))
    assert grids(results.tasks["mmlu"]) == []
    failed = write_results(tmp_path / "failed", {"needle": [cell(0, None, "en", 0, 8)]}, settings=GRID)
    assert grids(load_results(failed).tasks["needle"]) == []
