"""The page of a results folder, `report.html`: numbers, charts, settings, and the examples behind each number.

It is made from the folder alone, so it can be written again at any time (`qianwen report FOLDER`).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qianwen.eval.charts import Bar, curve_chart, heat_map, metric_chart, table_chart
from qianwen.eval.contamination import Contamination, load_contamination
from qianwen.eval.curves import curves
from qianwen.eval.example_cards import PER_VERDICT, example_cards
from qianwen.eval.grids import grids
from qianwen.eval.metrics import Estimate
from qianwen.eval.published import DOCUMENTS
from qianwen.eval.results import ANSWERS, Results, TaskResults, load_results
from qianwen.eval.tables import Table, document_tables, model_name
from qianwen.runtime.files import atomic_file, flat_config, json_text
from qianwen.runtime.page import Cell, Page, drawn
from qianwen.runtime.translation import tr

REPORT = "report.html"
MAX_SETTING_LEN = 400  # characters; settings.json has all


def write_page(folder: str | Path) -> Path:
    """Write `report.html`, and heat maps as figures, in a folder of results. DataError if the folder has none."""
    results = load_results(folder)
    path = results.folder / REPORT
    results_page(results, load_contamination(results.folder)).write(path)
    for task in results.tasks.values():
        for grid in grids(task):
            with atomic_file(results.folder / f"{grid.title.replace(' ', '-')}.svg", "wb") as file:
                file.write(drawn(heat_map(grid)))
    return path


def results_page(results: Results, contamination: dict[str, Contamination]) -> Page:
    """The page of `results`."""
    page = Page(tr("Evaluation of {model}", model=model_name(results)))
    page.headline({name: _headline(task) for name, task in results.tasks.items()})
    _add_overview(page, results)
    if contamination:
        _add_contamination(page, results, contamination)
    _add_published(page, results)
    for task in results.tasks.values():
        _add_task(page, task)
    page.section(tr("Settings of the model"))
    page.table([tr("setting"), tr("value")], _settings(results.settings, without="tasks"))
    return page


def _headline(task: TaskResults) -> str:
    if not task.metrics:
        return "–"
    name, value = next(iter(task.metrics.items()))
    return f"{value.value:.4g} {name}"


def _add_overview(page: Page, results: Results) -> None:
    page.section(tr("All metrics"))
    header = [tr("task"), tr("metric"), tr("value"), tr("95 % interval"), tr("chance"), tr("examples"), tr("errors")]
    page.table(header, [row for task in results.tasks.values() for row in _metric_rows(task)])
    page.paragraph(
        tr("The intervals are bootstrap intervals over examples; examples of one passage are drawn together.")
    )


def _metric_rows(task: TaskResults) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for place, (name, e) in enumerate(task.metrics.items()):
        chance = task.chance if place == 0 else None
        errors = task.num_errors if place == 0 else None
        rows.append([task.name, name, _rounded(e.value), _interval(e), chance, e.num_examples, errors])
    return rows or [[task.name, "–", None, "–", task.chance, 0, task.num_errors]]


def _add_contamination(page: Page, results: Results, contamination: dict[str, Contamination]) -> None:
    page.section(tr("Examples in the training corpus"))
    page.table(*contamination_rows(results, contamination))
    page.paragraph(contamination_legend())


def contamination_legend() -> str:
    """How to read the table of `contamination_rows`."""
    return tr(
        "An example is in the corpus if a run of 13 of its words is there, or, of 8 to 12 words, all of it. "
        "Shorter ones cannot be checked and count as clean."
    )


def contamination_rows(results: Results, contamination: dict[str, Contamination]) -> tuple[list[str], list[list[Cell]]]:
    """The metrics of all examples and of the clean ones, side by side."""
    names = [tr("task"), tr("metric"), tr("in the corpus"), tr("not checked"), tr("all examples"), tr("95 % interval")]
    rows: list[list[Cell]] = []
    for name, each in contamination.items():
        for place, (metric, value) in enumerate(results.tasks[name].metrics.items()):
            found = f"{each.share:.1%} ({len(each.indices):,})" if place == 0 else ""
            clean = each.clean.get(metric)
            last = [_rounded(clean.value), _interval(clean)] if clean else [None, "–"]
            unchecked = each.num_too_short if place == 0 else None
            rows.append([name, metric, found, unchecked, _rounded(value.value), _interval(value), *last])
    return [*names, tr("clean examples"), tr("95 % interval")], rows


def _add_published(page: Page, results: Results) -> None:
    """A chart for each column of a published table that has a value of ours."""
    charts = [
        (table, column)
        for table in {each.name: each for name in DOCUMENTS for each in document_tables(name, [results])}.values()
        for column in range(len(table.columns))
        if _is_measured(table, column)
    ]
    if not charts:
        return
    page.section(tr("Beside published results"))
    page.paragraph(
        tr("Published figures are of whole benchmarks. Compare a value of ours with them only if it has all examples.")
    )
    for table, column in charts:
        values = {"column": table.columns[column], "count": table.rows[-1].cells[column].num_examples}
        caption = tr("{table}: {column} (ours: {count:,} examples)", table=table.title, **values)
        page.figure(table_chart(table, column), caption)


def _is_measured(table: Table, column: int) -> bool:
    values = [row.cells[column].value for row in table.rows if row.kind != "ours"]
    is_ours = any(row.kind == "ours" and row.cells[column].value is not None for row in table.rows)
    return is_ours and any(value is not None for value in values)


def _add_task(page: Page, task: TaskResults) -> None:
    page.section(task.name)
    bars = [] if "curve" in task.settings else _bars(task)
    if bars:
        page.figure(metric_chart(bars, bars[0].label), tr("{task}, with 95 % intervals", task=task.name))
    for metric, lines in curves(task).items():
        page.figure(curve_chart(lines, metric), tr("{task}: {metric} by length", task=task.name, metric=metric))
    for grid in grids(task):
        page.figure(heat_map(grid), tr("{name}: {metric} in percent", name=grid.title, metric=grid.metric))
    page.table([tr("setting"), tr("value")], _settings(task.settings))
    labels, cards = example_cards(task.rows)
    if len(cards) < len(task.rows):
        message = "{count:,} of {total:,} examples are below: the first {limit} of each verdict. The file has all."
        page.paragraph(tr(message, count=len(cards), total=len(task.rows), limit=PER_VERDICT))
    page.links({tr("all answers of {task}", task=task.name): f"{ANSWERS}/{task.path.name}"})
    page.cards(labels, cards)


def _bars(task: TaskResults) -> list[Bar]:
    """The main metric with its parts, such as categories; other metrics have other units."""
    main = next(iter(task.metrics), "").partition("/")[0]
    names = [name for name in task.metrics if name.partition("/")[0] == main]
    return [Bar(name, *task.metrics[name][:3], task.chance) for name in names]


def _settings(settings: dict[str, Any], without: str = "") -> list[Sequence[Cell]]:
    flat = flat_config({name: value for name, value in settings.items() if name != without})
    return [[name, _setting(value)] for name, value in flat.items()]


def _setting(value: object) -> str:
    text = value if isinstance(value, str) else json_text(value)
    return text if len(text) <= MAX_SETTING_LEN else f"{text[:MAX_SETTING_LEN]}…"


def _interval(e: Estimate) -> str:
    return f"{e.low:.4g} – {e.high:.4g}"


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
