"""What `qianwen eval` makes of folders of results: the page, the check of the training corpus, `--diff A B`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.eval.evaluation import Evaluation
    from qianwen.eval.results import Results


def report_results(evaluations: "Sequence[Evaluation]", results: "Results", corpus: str) -> None:
    """Look for the examples in the training `corpus`, if one is given, and write the page."""
    from qianwen.eval.page import write_page

    if corpus:
        _check_corpus(evaluations, results, corpus)
    console.print(tr("report: {path}", path=write_page(results.folder)), markup=False)


def _check_corpus(evaluations: "Sequence[Evaluation]", results: "Results", corpus: str) -> None:
    from qianwen.eval.contamination import check_contamination, save_contamination
    from qianwen.eval.page import contamination_legend, contamination_rows

    tasks = {name: task for each in evaluations for name, task in each.tasks.items() if name in results.tasks}
    examples = {name: found for each in evaluations for name, found in each.examples.items()}
    checked = check_contamination(tasks, examples, results.tasks, corpus)
    save_contamination(results.folder, checked, corpus)
    header, rows = contamination_rows(results, {each.task: each for each in checked})
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 1))
    for place, heading in enumerate(header):
        table.add_column(heading, justify="left" if place < 2 else "right", overflow="fold")
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)
    console.print(contamination_legend(), style="dim", markup=False)


def diff_command(folders: Sequence[str], out: str, others: Sequence[str]) -> int:
    """Print the comparison; `out` is the folder for its files, if any. `others` must be empty: nothing is run."""
    from qianwen.eval.compare import compare
    from qianwen.eval.compare_report import diff_table, legend, notes, save_diff

    if others:
        message = "--diff compares two folders of results and runs nothing; leave out {others}"
        raise ConfigError(tr(message, others=", ".join(others)))
    if len(folders) != 2:
        raise ConfigError(tr("--diff needs two folders of results; got {count}", count=len(folders)))
    comparison = compare(*folders)
    console.print(f"A: {folders[0]}\nB: {folders[1]}\n", markup=False)
    console.print(diff_table(comparison))
    console.print(legend(), style="dim", markup=False)
    for note in notes(comparison):
        console.print(f"* {note}", markup=False)
    for path in save_diff(Path(out), comparison) if out else ():
        console.print(tr("written: {path}", path=path), markup=False)
    return 0
