"""The table of finished tasks."""

import io
from pathlib import Path

from rich.console import Console

from qianwen.eval.console import grid_table, results_table
from qianwen.eval.grids import Grid
from qianwen.eval.metrics import Estimate
from qianwen.eval.results import TaskResults


def table(metrics: dict[str, Estimate], chance: float | None, num_errors: int) -> list[list[str]]:
    results = TaskResults("mmlu", metrics, chance, {}, 1000, num_errors, Path("x"))
    console = Console(width=120, file=io.StringIO())
    console.print(results_table([results]))
    return [line.split() for line in console.file.getvalue().splitlines()]  # type: ignore[attr-defined]


def test_a_value_stands_beside_its_interval_chance_count_and_errors() -> None:
    metrics = {"acc": Estimate(0.625, 0.5, 0.75, 998), "acc/hard": Estimate(0.5, 0.25, 0.75, 10)}
    _, first, second = table(metrics, 0.25, 2)
    assert first == ["mmlu", "acc", "0.625", "0.5", "–", "0.75", "0.25", "998", "2"]
    assert second == ["mmlu", "acc/hard", "0.5", "0.25", "–", "0.75", "10", "2"], "chance is that of the first metric"


def test_a_task_in_which_every_example_failed_is_not_left_out() -> None:
    assert table({}, None, 1000)[1] == ["mmlu", "–", "–", "–", "0", "1,000"]


def test_a_grid_is_in_percent_and_a_cell_without_a_value_is_a_dash() -> None:
    grid = Grid(
        "needle", "zh", "accuracy", "depth", "length", (0, 50), (1024, 8192), {(0, 1024): 0.996, (50, 8192): 0.0}
    )
    console = Console(width=120, file=io.StringIO())
    console.print(grid_table(grid))
    title, heading, *lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert title.strip() == "needle zh, %" and heading.split()[-2:] == ["1,024", "8,192"]
    assert [line.split() for line in lines] == [["0", "100", "–"], ["50", "–", "0"]]
