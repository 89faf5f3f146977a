"""The metrics of finished tasks as a table on the console: never a number without its interval, count and chance."""

from collections.abc import Iterable

from rich.table import Table

from qianwen.eval.charts import fact_label
from qianwen.eval.grids import Grid
from qianwen.eval.results import TaskResults
from qianwen.runtime.translation import tr


def results_table(tasks: Iterable[TaskResults]) -> Table:
    """One row for each metric. Chance is the value of the first metric of a task for random guessing."""
    table = Table(box=None, header_style="dim", pad_edge=False)
    table.add_column(tr("task"))
    table.add_column(tr("metric"))
    for heading in (tr("value"), tr("95 % interval"), tr("chance"), tr("examples"), tr("errors")):
        table.add_column(heading, justify="right")
    for task in tasks:
        first, errors = True, f"{task.num_errors:,}" if task.num_errors else ""
        for name, e in task.metrics.items():
            chance = f"{task.chance:.4g}" if first and task.chance is not None else ""
            interval = f"{e.low:.4g} – {e.high:.4g}"
            table.add_row(task.name, name, f"{e.value:.4g}", interval, chance, f"{e.num_examples:,}", errors)
            first = False
        if not task.metrics:
            table.add_row(task.name, "–", "–", "–", "", "0", errors)
    return table


def grid_table(grid: Grid) -> Table:
    """The cells in percent, with the rows and columns of the grid."""
    table = Table(box=None, header_style="dim", pad_edge=False, title=f"{grid.title}, %", title_justify="left")
    table.add_column(fact_label(grid.row_fact), style="dim")
    for column in grid.columns:
        table.add_column(f"{column:,}" if isinstance(column, int) else column, justify="right")
    for row in grid.rows:
        cells = (grid.cells.get((row, column)) for column in grid.columns)
        table.add_row(str(row), *("–" if value is None else f"{100 * value:.0f}" for value in cells))
    return table
