"""The runs on this disk: a list, the state of each, comparisons and reports.

A run is any folder with a `run.json`; there is no index that could disagree with the folders. A run may hold others,
one level down, as the demo holds its stages.
"""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.files import RunFolder, flat_config, is_locked, runs_dir
from qianwen.runtime.log import displayed_metrics, read_metrics
from qianwen.runtime.page import Cell, Page, new_axes
from qianwen.runtime.translation import tr

MAX_CURVES = 12  # figures of a report; more are in metrics.jsonl


def all_runs() -> list[RunFolder]:
    """Every readable run under `runs_dir()`, the newest first."""
    runs = []
    for pattern in ("*/run.json", "*/*/run.json"):
        for file in runs_dir().glob(pattern):
            if file.parent.name.startswith("."):
                continue
            try:
                runs.append(RunFolder.open(file.parent))
            except CheckpointError as error:
                runs.append(RunFolder(file.parent, _damaged(file, error)))
    return sorted(runs, key=lambda run: run.record["created"], reverse=True)


def label(run: RunFolder) -> str:
    """How the user names it: its path inside `runs_dir()`, or its whole path."""
    here = runs_dir().resolve()
    path = run.path.resolve()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else str(path)


def find_run(name: str) -> RunFolder:
    """The run called `name`: a name or `outer/inner` inside `runs_dir()`, or a path. Raises ConfigError."""
    inside = runs_dir() / name
    is_path = os.sep in name and not (inside / "run.json").exists()
    return RunFolder.open(Path(name) if is_path else inside)


def state(run: RunFolder) -> str:
    """The recorded state, but `stopped` for a run whose process died before it could record another one."""
    recorded = run.record["state"]
    return "stopped" if recorded == "running" and not is_locked(run.path) else recorded


def state_text(run: RunFolder) -> str:
    """`state` in the user's language."""
    words = {
        "running": tr("running"), "finished": tr("finished"), "interrupted": tr("interrupted"),
        "failed": tr("failed"), "stopped": tr("stopped"), "damaged": tr("damaged"),
    }  # fmt: skip
    return words.get(state(run), state(run))


def size_bytes(run: RunFolder) -> int:
    """All bytes under the run's folder."""
    return sum(file.stat().st_size for file in run.path.rglob("*") if file.is_file() and not file.is_symlink())


def follow(run: RunFolder, *, poll_seconds: float = 0.5) -> Iterator[dict[str, Any]]:
    """Every metrics row so far, then each new one as it is written, until the run is no longer running."""
    seen = 0
    while True:
        is_running = state(RunFolder.open(run.path)) == "running"  # asked first, so the last rows are not missed
        rows = read_metrics(run.metrics_path)
        yield from rows[seen:]
        seen = len(rows)
        if not is_running:
            return
        time.sleep(poll_seconds)


def stop(run: RunFolder) -> None:
    """Ask the process of a run to save a checkpoint and end. Raises ConfigError if the run is not running."""
    try:
        if state(run) != "running":
            raise ProcessLookupError
        # The holder of the lock is the run's process; the number in the record may be another process by now.
        os.kill(int((run.path / ".lock").read_text(encoding="ascii")), signal.SIGTERM)
    except (OSError, ValueError):
        raise ConfigError(tr("{name} is not running", name=label(run))) from None


def delete(run: RunFolder) -> None:
    """Remove the run for good. Raises ConfigError while it is running."""
    if is_locked(run.path):
        pid = run.record.get("pid")
        raise ConfigError(tr("{name} is running as process {pid}: stop it first", name=label(run), pid=pid))
    deleted = run.path.with_name(f".{run.path.name}.deleted")
    os.rename(run.path, deleted)  # the name is free at once, and never belongs to half a run
    shutil.rmtree(deleted)


def comparison(runs: list[RunFolder]) -> tuple[list[str], list[list[Cell]]]:
    """A table of runs side by side: state, every configuration field that differs, and each metric's last value."""
    configs = [flat_config(run.config) for run in runs]
    fields = sorted(set().union(*configs))
    differing = [f for f in fields if len({repr(config.get(f)) for config in configs}) > 1]
    last = [_last_values(run) for run in runs]
    metrics = list(dict.fromkeys(name for values in last for name in values))
    header = [tr("run"), *(label(run) for run in runs)]
    rows: list[list[Cell]] = [
        [tr("stage"), *(run.record["stage"] for run in runs)],
        [tr("state"), *map(state_text, runs)],
    ]
    rows += [[field, *(_cell(config.get(field)) for config in configs)] for field in differing]
    rows += [[name, *(values.get(name) for values in last)] for name in metrics]
    return header, rows


def compare_page(runs: list[RunFolder], metric: str) -> Page:
    """The comparison as a report: the table, and `metric` over steps with one curve per run."""
    page = Page(tr("Comparison of runs"))
    figure, (axes,) = new_axes()
    for run in runs:
        points = _points(run, metric)
        axes.plot([step for step, _ in points], [value for _, value in points], label=label(run))
    axes.set_xlabel(tr("step"))
    axes.set_title(metric)
    axes.legend()
    page.figure(figure, tr("{metric} over steps", metric=metric))
    page.table(*comparison(runs))
    return page


def run_page(run: RunFolder) -> Page:
    """The report of any run: how it stands, a curve per metric, its configuration."""
    page = Page(tr("Run {name}", name=label(run)))
    page.headline({tr("stage"): run.record["stage"], tr("state"): state_text(run), **_last_values(run)})
    page.section(tr("Curves"))
    for name in list(_last_values(run))[:MAX_CURVES]:
        if name != "step" and len(points := _points(run, name)) > 1:
            figure, (axes,) = new_axes(height=2.4)
            axes.plot([step for step, _ in points], [value for _, value in points])
            page.figure(figure, tr("{metric} over steps", metric=name))
    page.section(tr("Configuration"))
    page.table([tr("field"), tr("value")], [[field, str(value)] for field, value in flat_config(run.config).items()])
    return page


def _last_values(run: RunFolder) -> dict[str, Cell]:
    values: dict[str, Cell] = {}
    for row in displayed_metrics(run.metrics_path):
        values |= {name: value for name, value in row.items() if name != "time"}
    return values


def _points(run: RunFolder, metric: str) -> list[tuple[int, float]]:
    rows = displayed_metrics(run.metrics_path)
    return [(row["step"], row[metric]) for row in rows if isinstance(row.get(metric), (int, float))]


def _cell(value: Any) -> Cell:
    return value if isinstance(value, (str, int, float, type(None))) else str(value)


def _damaged(file: Path, error: CheckpointError) -> dict[str, Any]:
    created = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(file.stat().st_mtime))
    return {"stage": "?", "state": "damaged", "created": created, "config": {}, "error": str(error)}
