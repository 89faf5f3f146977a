"""Results over two facts of the examples, such as the depth of a needle and the length of its text.

A task has grids if its settings name the facts: {"grid": {"by": "language", "rows": "depth", "columns": "length"}}.
There is one for each value of `by`. They are made from the rows of a folder of results.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from qianwen.eval.metrics import Share
from qianwen.eval.results import TaskResults


@dataclass(frozen=True)
class Grid:
    """The main metric in each cell; a cell without a measured example has none."""

    task: str
    name: str  # the value of the fact that divides the grids; empty if there is only one
    metric: str
    row_fact: str
    column_fact: str
    rows: tuple[str | int, ...]
    columns: tuple[str | int, ...]
    cells: Mapping[tuple[str | int, str | int], float]

    @property
    def title(self) -> str:
        """Which grid it is."""
        return f"{self.task} {self.name}".strip()


def grids(task: TaskResults) -> list[Grid]:
    """The grids of a task, one for each value of the fact that divides them; none if the task has no such facts."""
    chosen = task.settings.get("grid")
    metric = next(iter(task.metrics), "")
    if not chosen or not metric:
        return []
    shares: dict[str, dict[tuple[str | int, str | int], list[Share]]] = {}
    for row in task.rows:
        if "error" not in row and metric in row["score"]["shares"]:
            facts = row["facts"]
            cell = facts[chosen["rows"]], facts[chosen["columns"]]
            share = Share(*row["score"]["shares"][metric])
            shares.setdefault(facts.get(chosen["by"], ""), {}).setdefault(cell, []).append(share)
    facts = metric, chosen["rows"], chosen["columns"]
    return [_grid(task.name, name, *facts, shares[name]) for name in sorted(shares)]


def _grid(
    task: str,
    name: str,
    metric: str,
    row_fact: str,
    column_fact: str,
    shares: Mapping[tuple[str | int, str | int], list[Share]],
) -> Grid:
    """Numbers in their order, names in that of the examples."""
    values = {
        cell: sum(share.amount for share in each) / sum(share.count for share in each) for cell, each in shares.items()
    }
    rows, columns = (_ordered([cell[place] for cell in values]) for place in (0, 1))
    return Grid(task, name, metric, row_fact, column_fact, rows, columns, values)


def _ordered(values: list[str | int]) -> tuple[str | int, ...]:
    different = list(dict.fromkeys(values))
    return tuple(sorted(different)) if all(isinstance(value, int) for value in different) else tuple(different)
