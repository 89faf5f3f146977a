"""`qianwen eval MODEL TASK…`: evaluate a model on tasks, with every answer in a folder, and print the metrics.

    read the data of all tasks → load the model → check that it can do all of them → ask → print

Nothing is asked before everything is checked. The same command goes on after Ctrl-C or a kill.
"""

import dataclasses
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import parse
from qianwen.cli.eval_model import opened_model, prompt_model
from qianwen.cli.eval_report import diff_command, report_results
from qianwen.cli.long_context_options import AS_STORED, LongContextOptions
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import cache_dir, runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.eval.results import Results
    from qianwen.eval.task import Task


@dataclass(frozen=True)
class EvalOptions:
    """Evaluate a model on tasks. Every answer is written to a folder as it arrives; the same command goes on there.

    `qianwen eval MODEL` alone lists the tasks.
    """

    model: tyro.conf.Positional[str] = ""
    """The model: a folder, GGUF file, run name or hub id; with --url the name that the server knows."""
    tasks: tyro.conf.Positional[tuple[str, ...]] = ()
    """Names of tasks."""
    data_dir: str = ""
    """Folder with the published files of the tasks. Default: they are downloaded from the Hugging Face hub."""
    data: str = ""
    """File or folder with the data of a single task; for text and questions by default the held-out set of the demo."""
    limit: int = 0
    """Use only the first N examples; 0: all."""
    shots: int | None = None
    """Number of worked examples before each question. Default: as published."""
    samples: int = 1
    """Answers to each question, for pass@k."""
    lengths: tuple[int, ...] = ()
    """Lengths in tokens of the texts of perplexity-by-length, needle and ruler. Default: steps up to the model's
    context, of needle and ruler up to 8,192."""
    languages: tuple[str, ...] = ()
    """Languages of the texts of needle (en, zh), or of the documents of perplexity-by-length. Default: all."""
    sandbox: str = "auto"
    """Isolation for programs that the model wrote: auto, bubblewrap, namespaces or landlock."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    exact: bool = False
    """The same answers to the last bit whatever runs at the same time; slower."""
    batch: int = 16
    """Maximum number of answers that are computed at the same time."""
    context: int = 0
    """Maximum tokens of prompt and answer together; 0: the model's own limit, or what fits in memory."""
    long_context: tyro.conf.OmitArgPrefixes[LongContextOptions] = AS_STORED
    url: str = ""
    """Base URL of an OpenAI-compatible server, such as http://127.0.0.1:8000/v1, instead of a model that runs here.
    The API key is read from the environment variable QIANWEN_KEY."""
    out: str = ""
    """Folder of the results; by default runs/eval/NAME, with the name of the model."""
    restart: bool = False
    """Discard earlier answers to these tasks in the folder."""
    table: str = ""
    """Print our rows in the tables of a document, and run the tasks that they need: memo, blog or models."""
    harness: tuple[str, ...] = ()
    """Tasks of lm-evaluation-harness to run instead of ours (extra lm-eval)."""
    training_corpus: str = ""
    """The text that the model was trained on: report which examples are in it, and the metrics without these."""
    diff: tuple[str, ...] = ()
    """Compare two folders of results instead: values of the second minus the first. --out: folder for diff.md and
    diff.json, which have every example that changed."""


def evaluate(argv: list[str]) -> int:
    """Prepare, run, print. The status is 1 if an example ended with an error."""
    options = parse(EvalOptions, "qianwen eval", argv)
    if options.diff:
        return diff_command(options.diff, options.out, _set_options(options))
    if not options.model or not (options.tasks or options.table or options.harness):
        return _list_tasks()

    from qianwen.checkpoints.load import model_name

    folder = Path(options.out) if options.out else runs_dir() / "eval" / model_name(options.model)
    try:
        return _evaluate(options, folder)
    except KeyboardInterrupt:
        command = shlex.join(["qianwen", "eval", *(arg for arg in argv if arg != "--restart")])
        console.print(tr("saved; to continue: {command}", command=command), markup=False)
        raise


def _set_options(options: EvalOptions) -> list[str]:
    """The arguments that were given besides --diff and --out."""
    given = [argument for argument in (options.model, *options.tasks) if argument]
    values = {**vars(options), **vars(options.long_context)}
    fields = [*dataclasses.fields(options), *dataclasses.fields(options.long_context)]
    skipped = ("model", "tasks", "diff", "out", "long_context")
    changed = [field.name for field in fields if field.name not in skipped and values[field.name] != field.default]
    return given + [f"--{name.replace('_', '-')}" for name in changed]


def _evaluate(options: EvalOptions, folder: Path) -> int:
    from qianwen.cli.eval_table import harness_command, table_command, tasks_to_run
    from qianwen.data.documents.readers import corpus_files
    from qianwen.eval.evaluation import Evaluation

    if options.training_corpus:
        corpus_files(options.training_corpus)  # an error now if there is nothing
    if options.harness and options.training_corpus:
        raise ConfigError(tr("--training-corpus is for our own tasks; leave it out with --harness"))
    if options.harness:
        return harness_command(options, folder)
    names = tasks_to_run(options.table, options.tasks) if options.table else options.tasks
    _check(options, names)
    if options.table:
        return table_command(options, folder, {name: partial(_task, options, name) for name in names})
    evaluation = Evaluation([_task(options, name) for name in names], folder, limit=options.limit)
    with opened_model(options, evaluation.check) as (model, settings):
        results = evaluation.run(model, settings, restart=options.restart)
    status = _print(results, list(evaluation.tasks))
    report_results([evaluation], results, options.training_corpus)
    return status


def _check(options: EvalOptions, names: Sequence[str]) -> None:
    """ConfigError for options that no task could be asked with."""
    from qianwen.eval.tasks import BUILT_IN, OWN_TEXTS, TASKS, WITH_LENGTHS
    from qianwen.eval.tasks.long_context.haystack import has_haystack

    for name in names:
        if name not in TASKS:
            raise ConfigError(tr("there is no task {name}; choose one of {names}", name=name, names=", ".join(TASKS)))
    if (options.lengths or options.languages) and not set(names) & set(WITH_LENGTHS):
        message = "--lengths and --languages are for the tasks {names}"
        raise ConfigError(tr(message, names=", ".join(WITH_LENGTHS)))
    if options.data and len(names) > 1:
        raise ConfigError(tr("--data is the data of one task; give --data-dir FOLDER for several tasks"))
    if options.data and names[0] in BUILT_IN:
        raise ConfigError(tr("{name} has its own data; leave out --data", name=names[0]))
    if options.data and names[0] in OWN_TEXTS and not has_haystack(Path(options.data)):
        raise ConfigError(tr("{path} has no folder `haystack` with the texts en.txt and zh.txt", path=options.data))
    if options.samples < 1:
        raise ConfigError(tr("--samples must be at least 1; got {number}", number=options.samples))


def _task(options: EvalOptions, name: str) -> "Task":
    from qianwen.eval.task import TaskOptions
    from qianwen.eval.tasks import TASKS

    chosen = {"shots": options.shots, "num_samples": options.samples, "sandbox": options.sandbox}
    texts = {"lengths": options.lengths, "languages": options.languages, "model": prompt_model(options)}
    return TASKS[name](TaskOptions(data=_data(name, options), **chosen, **texts))


def _data(name: str, options: EvalOptions) -> Path:
    """Where the data of a task is: as given, else what the demo held out, else on the hub."""
    from qianwen.eval.hub_data import fetch_data
    from qianwen.eval.tasks import BUILT_IN, OWN_TEXTS

    made = runs_dir() / "demo" / "text"
    held_out = {"text": made / "held_out", "questions": made / "dialogues" / "held_out.jsonl"}
    given = options.data or options.data_dir
    if given:
        return Path(given)
    if name in OWN_TEXTS or name in BUILT_IN:
        return cache_dir()
    return held_out[name] if name in held_out else fetch_data(name)


def _print(results: "Results", names: Sequence[str]) -> int:
    from qianwen.eval.console import grid_table, results_table
    from qianwen.eval.grids import grids

    tasks = [results.tasks[name] for name in names]
    console.print(results_table(tasks))
    for grid in (each for task in tasks for each in grids(task)):
        console.print(grid_table(grid))
    num_errors = sum(task.num_errors for task in tasks)
    if num_errors:
        message = "{count:,} examples ended with an error and are not in the metrics; the same command asks them again"
        console.print(tr(message, count=num_errors), style="yellow")
    console.print(tr("every answer: {path}", path=results.folder), markup=False)
    return 1 if num_errors else 0


def _list_tasks() -> int:
    from qianwen.eval import tasks

    console.print(tr("no task given; choose one or more of {names}", names=", ".join(tasks.TASKS)), markup=False)
    return 2
