"""`qianwen eval MODEL --table DOCUMENT` and `--harness TASK…`: tables of the documents, and lm-eval's tasks.

A table runs each of its tasks whose data is there. One that cannot run does not stop the others: its cells say why.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qianwen.cli.eval_model import local_model, opened_model
from qianwen.cli.eval_report import report_results
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_file, json_text
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.chat.model import ChatModel
    from qianwen.cli.eval import EvalOptions
    from qianwen.eval.evaluation import Evaluation
    from qianwen.eval.results import Results
    from qianwen.eval.task import Example, Task

HARNESS_FILE = "lm_eval.json"


def table_command(options: "EvalOptions", folder: Path, tasks: "Mapping[str, Callable[[], Task]]") -> int:
    """Make and run the tasks of these names, print the tables of the document, and write them to `folder`."""
    from qianwen.eval.tables import console_tables, document_tables, save_tables

    missing: dict[str, str] = {}
    results, evaluations = _fill(options, folder, tasks, missing)
    tables = document_tables(options.table, [results], missing)
    for table in console_tables(tables):
        console.print(table)
    for path in save_tables(folder, options.table, tables):
        console.print(tr("table: {path}", path=path), markup=False)
    if results.tasks:
        report_results(evaluations, results, options.training_corpus)
    return 1 if any(task.num_errors for task in results.tasks.values()) else 0


def _fill(
    options: "EvalOptions", folder: Path, tasks: "Mapping[str, Callable[[], Task]]", missing: dict[str, str]
) -> "tuple[Results, list[Evaluation]]":
    """The results of `tasks`, and of earlier runs in `folder`. `missing` gets what cannot run, and why."""
    from qianwen.eval.evaluation import Evaluation
    from qianwen.eval.results import RESULTS, Results, load_results

    evaluations: dict[str, Evaluation] = {}
    for name, make in tasks.items():
        try:
            evaluations[name] = Evaluation([make()], folder, limit=options.limit)
        except (ConfigError, DataError) as error:
            _leave_out(name, error, missing)
    if evaluations:
        with opened_model(options) as (model, settings):
            for name, evaluation in evaluations.items():
                try:
                    evaluation.check(model)
                    _check_choices(evaluation.examples[name], model)
                except ConfigError as error:
                    _leave_out(name, error, missing)
                    continue
                evaluation.run(model, settings, restart=options.restart)
    if (folder / RESULTS).exists():
        return load_results(folder), list(evaluations.values())
    folder.mkdir(parents=True, exist_ok=True)
    return Results(folder, {"model": options.model}, {}), []


def _check_choices(examples: "Sequence[Example]", model: "ChatModel") -> None:
    """ConfigError if the letters of a choice are several tokens for `model`: it cannot do this task, but others."""
    from qianwen.eval.ask import ask
    from qianwen.eval.task import Choice

    if isinstance(examples[0], Choice):
        ask(model, examples[0])


def _leave_out(name: str, error: Exception, missing: dict[str, str]) -> None:
    missing[name] = str(error)
    console.print(tr("{task} is left out: {error}", task=name, error=error), style="yellow", markup=False)


def harness_command(options: "EvalOptions", folder: Path) -> int:
    """Run lm-eval's tasks, and those that YAML files in `--data-dir` define; print its table, write its results."""
    if options.url:
        raise ConfigError(
            tr("--harness needs a model that runs here; lm-eval itself can ask a URL (local-completions)")
        )

    from lm_eval.utils import make_table

    from qianwen.eval.lm_eval_adapter import run_harness

    chosen = {"limit": options.limit or None, "num_fewshot": options.shots}
    results = run_harness(local_model(options), options.harness, folder=options.data_dir or None, **chosen)
    console.print(make_table(results), markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / HARNESS_FILE, "w") as file:
        file.write(json_text(_plain(results), indent=1) + "\n")
    console.print(tr("every answer: {path}", path=folder / HARNESS_FILE), markup=False)
    return 0


def _plain(value: Any) -> Any:
    """`value` with what JSON does not have as text; lm-eval's results contain functions and arrays."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def tasks_to_run(document: str, chosen: Sequence[str]) -> Sequence[str]:
    """`chosen`, or all tasks that fill the tables of a document. ConfigError for an unknown document."""
    from qianwen.eval.published import DOCUMENTS
    from qianwen.eval.tables import tasks_of_table
    from qianwen.eval.tasks import TASKS

    if document not in DOCUMENTS:
        message = "there is no table {name}; choose one of {names}"
        raise ConfigError(tr(message, name=document, names=", ".join(DOCUMENTS)))
    return chosen or [name for name in tasks_of_table(document) if name in TASKS]
