"""`qianwen runs` and `qianwen report`: list, follow, compare, delete and report the runs on this disk."""

import sys
from pathlib import Path
from typing import Annotated

import tyro
from rich.table import Table

from qianwen.cli.arguments import localized, parse, parse_subcommand
from qianwen.runtime import runs as registry
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import RunFolder, runs_dir
from qianwen.runtime.log import console, displayed_metrics, metrics_line
from qianwen.runtime.translation import tr
from qianwen.runtime.trend import trend

Names = Annotated[
    tuple[str, ...],
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN", help=localized("Names of the runs; `qianwen runs` lists them.")),
]
Name = Annotated[
    str,
    tyro.conf.Positional,
    tyro.conf.arg(metavar="RUN", help=localized("Name of the run; `qianwen runs` lists them.")),
]
MAX_ERRORS = 5  # failed runs whose errors are listed


def runs(argv: list[str]) -> int:
    """Dispatch `list` (the default), `follow`, `compare` and `delete`."""
    commands = {"list": list_runs, "follow": follow, "compare": compare, "delete": delete}
    return parse_subcommand(commands, "qianwen runs", argv or ["list"])()


def list_runs() -> int:
    """List the runs in `runs/` (or $QIANWEN_RUNS) with their sizes, the newest first."""
    all_runs = registry.all_runs()
    if not all_runs:
        console.print(tr("no runs in {folder} yet: `qianwen demo` makes the first", folder=runs_dir()))
        return 0
    table = Table(box=None, header_style="dim", pad_edge=False)
    for heading in (tr("run"), tr("stage"), tr("state"), tr("created")):
        table.add_column(heading)
    for heading in (tr("step"), tr("loss"), tr("size")):
        table.add_column(heading, justify="right")
    for run in all_runs:
        row = (displayed_metrics(run.metrics_path) or [{}])[-1]
        loss = row.get("loss")
        numbers = [f"{row['step']:,}" if "step" in row else "", f"{loss:.4g}" if isinstance(loss, float) else ""]
        created = run.record["created"][:16].replace("T", " ")
        table.add_row(registry.label(run), run.record["stage"], registry.state_text(run), created, *numbers, _size(run))
    console.print(table)
    failed = [run for run in all_runs if registry.state(run) == "failed" and run.record.get("error")]
    for run in failed[:MAX_ERRORS]:
        message = tr("{name} failed: {error}", name=registry.label(run), error=run.record["error"])
        console.print(message, style="red", markup=False)
    return 0


def follow(run: Name) -> int:
    """Print a run's metrics, then new ones as they are written. Ctrl-C stops this command, not the run."""
    followed = registry.find_run(run)
    for row in registry.follow(followed):
        console.print(metrics_line({name: value for name, value in row.items() if name != "time"}))
    if sentence := trend(displayed_metrics(followed.metrics_path)):
        console.print(sentence)
    return 0


def compare(runs: Names, metric: Annotated[str, tyro.conf.arg(help=localized("Metric to plot."))] = "loss") -> int:
    """Compare several runs: a table here, and the curves of a metric in `runs/compare.html`."""
    if len(runs) < 2:
        raise ConfigError(tr("name at least two runs to compare: `qianwen runs` lists them"))
    selected = [registry.find_run(name) for name in runs]
    header, rows = registry.comparison(selected)
    table = Table(*header, box=None, header_style="dim", pad_edge=False)
    for row in rows:
        table.add_row(
            *(f"{cell:.4g}" if isinstance(cell, float) else str("" if cell is None else cell) for cell in row)
        )
    console.print(table)
    path = runs_dir() / "compare.html"
    registry.compare_page(selected, metric).write(path)
    console.print(tr("written: {path}", path=path))
    return 0


def delete(runs: Names, yes: Annotated[bool, tyro.conf.arg(help=localized("Delete without asking."))] = False) -> int:
    """Print the sizes of runs, ask for confirmation, and delete them."""
    if not runs:
        raise ConfigError(tr("name the runs to delete: `qianwen runs` lists them"))
    selected = [registry.find_run(name) for name in runs]
    for run in selected:
        console.print(f"{registry.label(run)}  {_size(run)}")
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(tr("not an interactive terminal; pass --yes to delete without asking"))
        if console.input(tr("delete permanently? [y/N] ")).strip().lower() not in ("y", "yes", "是"):
            return 1
    for run in selected:
        registry.delete(run)
        console.print(tr("deleted {name}", name=registry.label(run)))
    return 0


def report(argv: list[str]) -> int:
    """`qianwen report RUN`: write the report unless it is newer than the metrics, and print its path."""
    name = parse(_report_arguments, "qianwen report", argv)
    if folder := _results_folder(name):
        from qianwen.eval.page import write_page

        console.print(str(write_page(folder)))
        return 0
    run = registry.find_run(name)
    path = run.path / "report.html"
    if not path.exists() or _is_newer(run, path):
        registry.run_page(run).write(path)
    console.print(str(path))
    return 0


def _results_folder(name: str) -> Path | None:
    """The folder of `qianwen eval` with this name or path; None if it is something else, such as a training run."""
    results = "results.json"  # of eval/results.py, which is slow to import
    folders = (Path(name), runs_dir() / name, runs_dir() / "eval" / name)
    return next((folder for folder in folders if (folder / results).exists()), None)


def _report_arguments(run: Name) -> str:
    """Write the report of a run, or of a folder of `qianwen eval`, and print its path."""
    return run


def _is_newer(run: RunFolder, path: Path) -> bool:
    return run.metrics_path.exists() and run.metrics_path.stat().st_mtime > path.stat().st_mtime


def _size(run: RunFolder) -> str:
    size = float(registry.size_bytes(run))
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} GB"
