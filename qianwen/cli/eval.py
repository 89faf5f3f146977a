"""`qianwen eval MODEL TASK… --data PATH`: evaluate a model on tasks and print the metrics with intervals."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from qianwen.cli.arguments import parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class EvalOptions:
    """Evaluate a model. Tasks: text (bits per byte), questions (format and arithmetic), mmlu, gsm8k."""

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id."""
    tasks: tyro.conf.Positional[tuple[str, ...]]
    """Tasks to run: text, questions, mmlu, gsm8k."""
    data: str = ""
    """File or folder with the examples; for text and questions by default the held-out set of the demo."""
    limit: int = 0
    """Use only the first N examples; 0: all."""
    out: str = ""
    """Also write the metrics and every answer to this JSON file."""


def evaluate(argv: list[str]) -> int:
    """Load the model once, run the tasks, print and save the metrics."""
    options = parse(EvalOptions, "qianwen eval", argv)

    from qianwen.engine.llm import LLM
    from qianwen.eval.report import console_table, save_results
    from qianwen.eval.runner import run_task
    from qianwen.eval.task import TaskOptions
    from qianwen.eval.tasks import TASKS
    from qianwen.runtime.files import runs_dir

    for name in options.tasks:
        if name not in TASKS:
            raise ConfigError(tr("there is no task {name}; choose one of {names}", name=name, names=", ".join(TASKS)))
    made = runs_dir() / "demo" / "text"
    held_out = {"text": str(made / "held_out"), "questions": str(made / "dialogues" / "held_out.jsonl")}
    if not options.data and (unfed := [name for name in options.tasks if name not in held_out]):
        raise ConfigError(tr("{name} needs --data: the file or folder that contains its questions", name=unfed[0]))
    tasks = [TASKS[name](TaskOptions(data=Path(options.data or held_out[name]))) for name in options.tasks]
    llm = LLM.load(options.model)
    results = [run_task(task, llm, limit=options.limit) for task in tasks]
    console.print(console_table(results))
    if options.out:
        save_results(options.out, results, options.model)
        console.print(tr("every answer: {path}", path=options.out))
    return 0
