"""`qianwen redteam MODEL|URL`: harmful prompts under attacks, and how often the model does what they ask.

    choose prompts and attacks → load the model or connect → ask → compliance with intervals, transcripts, a page

The same command goes on after Ctrl-C or a kill; a larger --limit adds prompts to those that are answered.
"""

import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from qianwen.checkpoints.load import Bits
from qianwen.cli.arguments import parse
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import runs_dir
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

if TYPE_CHECKING:
    from qianwen.cli.eval import EvalOptions
    from qianwen.eval.results import Results
    from qianwen.eval.safety.red_team import RedTeam


@dataclass(frozen=True)
class RedTeamOptions:
    """Ask a chat model harmful questions, plain and under attacks, and report how often it complies.

    The prompts are those for evaluation, which safety data never contains. Every transcript is kept."""

    model: tyro.conf.Positional[str]
    """The model: a folder, GGUF file, run name or hub id, or the base URL of a server, such as
    http://127.0.0.1:8000/v1."""
    name: str = ""
    """With a URL: the name that the server knows the model by. The API key is read from the environment variable
    QIANWEN_KEY."""
    limit: int = 28
    """Number of prompts, balanced over categories and languages; each is asked under every attack. 0: all."""
    categories: tuple[str, ...] = ()
    """Categories of harm: violence, bias, sexual, self_harm, crime, privacy, jailbreak. Default: all."""
    attacks: tuple[str, ...] = ()
    """Attacks: plain, role_play, ignore_instructions, hypothetical, prefix_injection, translation, authority, base64,
    substitution, split_payload, pressure. Default: all."""
    languages: tuple[str, ...] = ("en", "zh")
    """Languages of the prompts."""
    seed: int = 0
    """Random seed of the order of the prompts."""
    bits: Bits = "stored"
    """Bits per weight: `stored`: as on disk; 4, 5, 8, 16: packed for the fast kernels; None: unpacked floats."""
    batch: int = 16
    """Maximum number of answers that are computed at the same time."""
    out: str = ""
    """Folder of the results; by default runs/redteam/NAME, with the name of the model."""
    restart: bool = False
    """Discard earlier answers in the folder."""


def redteam(argv: list[str]) -> int:
    """Prepare, run, print. The status is 1 if a conversation ended with an error."""
    options = parse(RedTeamOptions, "qianwen redteam", argv)
    try:
        return _redteam(options)
    except KeyboardInterrupt:
        command = shlex.join(["qianwen", "redteam", *(arg for arg in argv if arg != "--restart")])
        console.print(tr("saved; to continue: {command}", command=command), markup=False)
        raise


def _redteam(options: RedTeamOptions) -> int:
    from qianwen.cli.eval_model import opened_model
    from qianwen.eval.evaluation import Evaluation
    from qianwen.eval.safety.red_team_page import write_red_team_page

    task, chosen = _task(options), _model_options(options)
    evaluation = Evaluation([task], _folder(options, chosen.model), limit=options.limit * len(task.attacks))
    with opened_model(chosen, evaluation.check) as (model, settings):
        results = evaluation.run(model, settings, restart=options.restart)
    num_errors = _print(results)
    console.print(tr("report: {path}", path=write_red_team_page(results)), markup=False)
    return 1 if num_errors else 0


def _task(options: RedTeamOptions) -> "RedTeam":
    from qianwen.align.safety.taxonomy import LANGUAGES
    from qianwen.eval.safety.red_team import RedTeam

    if options.limit < 0:
        raise ConfigError(tr("--limit must be 0 or more; got {number}", number=options.limit))
    languages = [language for language in LANGUAGES if language in options.languages]
    if unknown := [name for name in options.languages if name not in LANGUAGES]:
        raise ConfigError(tr("there are no prompts in {language}; choose en, zh or both", language=unknown[0]))
    return RedTeam(seed=options.seed, categories=options.categories, attacks=options.attacks, languages=languages)


def _model_options(options: RedTeamOptions) -> "EvalOptions":
    """The model or URL in the options that `qianwen eval` opens models with."""
    from qianwen.cli.eval import EvalOptions

    is_url = options.model.startswith(("http://", "https://"))
    if is_url and not options.name:
        raise ConfigError(tr("a URL needs --name, the name that the server knows the model by"))
    if options.name and not is_url:
        raise ConfigError(tr("--name is for a model behind a URL"))
    url = options.model if is_url else ""
    return EvalOptions(options.name or options.model, url=url, bits=options.bits, batch=options.batch)


def _folder(options: RedTeamOptions, model: str) -> Path:
    from qianwen.checkpoints.load import model_name

    return Path(options.out) if options.out else runs_dir() / "redteam" / model_name(model)


def _print(results: "Results") -> int:
    """Print the table; returns the number of errors."""
    from rich.table import Table

    from qianwen.eval.safety.red_team import RedTeam
    from qianwen.eval.safety.red_team_page import interval, percent, rows_of

    task = results.tasks[RedTeam.name]
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in ("", tr("compliance"), tr("95 % interval"), tr("conversations")):
        table.add_column(heading, justify="left" if not heading else "right")
    table.add_row(tr("all"), percent(task, "compliance"), interval(task, "compliance"), f"{task.num_examples:,}")
    for kind in ("category", "attack", "language"):
        table.add_section()
        for row in rows_of(task, kind):
            table.add_row(*map(str, row))
    console.print(table)
    if task.num_errors:
        message = "{count:,} examples ended with an error and are not in the metrics; the same command asks them again"
        console.print(tr(message, count=task.num_errors), style="yellow")
    console.print(tr("every answer: {path}", path=task.path), markup=False)
    return task.num_errors
