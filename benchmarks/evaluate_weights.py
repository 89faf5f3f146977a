"""Published benchmarks on real weights, as stored and unpacked: what is due to the bits, and what to the protocol?

    python benchmarks/evaluate_weights.py --data-dir BENCHMARKS [--out FOLDER] [--only 0.5B/mmlu …] [--json PATH]

Runs `qianwen eval` for each line of `RUNS`. Every answer is kept in FOLDER (runs/evaluate-weights), so the same command
goes on after an interruption; all of it should take five hours on two cores, which is an estimate. `--report` only
reads what FOLDER has. `--quick` runs the first 8 examples of the tasks with likelihoods.

unpacked   the same examples with the file's weights as floats; beside it the value of the stored weights on these
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

from pairs import Report

from qianwen.eval.metrics import Share, estimate
from qianwen.eval.results import PROGRESS, TaskResults, load_results
from qianwen.runtime.files import read_jsonl

WEIGHTS = {
    "0.5B": "qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    "1.5B": "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
}
UNPACKED_ITEMS = 300
PUBLISHED = {"1.5B/humaneval-chat": 0.70}  # about, by the authors' own harness; the other values were not published


class Run(NamedTuple):
    """One task on one model; `limit` 0: all examples."""

    model: str
    task: str
    limit: int = 0
    is_unpacked: bool = False

    @property
    def name(self) -> str:
        return f"{self.model}/{self.task}" + ("/unpacked" if self.is_unpacked else "")

    def folder(self, out: Path) -> Path:
        return out / f"{self.model}{'-unpacked' if self.is_unpacked else ''}"


SHARED = [Run("", "humaneval-chat"), Run("", "ceval"), Run("", "wmt22-zh-en", 300), Run("", "wmt22-en-zh", 300)]
RUNS = [
    *(run._replace(model="0.5B") for run in [*SHARED, Run("", "gsm8k-chat", 300), Run("", "mmlu")]),
    *(run._replace(model="1.5B") for run in [*SHARED, Run("", "gsm8k-chat"), Run("", "mmlu")]),
    Run("1.5B", "gsm8k-chat-4shot", 200),
    Run("1.5B", "gsm8k", 200),
    *(
        Run(model, task, UNPACKED_ITEMS, is_unpacked=True)
        for model in WEIGHTS
        for task in ("mmlu", "ceval", "gsm8k-chat", "wmt22-zh-en", "wmt22-en-zh")
    ),
]


def evaluate(run: Run, options: argparse.Namespace) -> None:
    """`qianwen eval` of one run, which goes on where an earlier one stopped."""
    limit = 8 if options.quick else run.limit
    command = [sys.executable, "-m", "qianwen", "eval", str(options.weights / WEIGHTS[run.model]), run.task]
    command += ["--data-dir", options.data_dir, "--out", str(run.folder(options.out))]
    command += ["--limit", str(limit), *(["--bits", "None"] if run.is_unpacked else [])]
    subprocess.run(command, check=True)


def measured(run: Run, out: Path) -> dict[str, Any] | None:
    """The main metric of a finished run with its interval and seconds; None if it is not finished."""
    folder = run.folder(out)
    task = load_results(folder).tasks.get(run.task) if (folder / "results.json").exists() else None
    if task is None:
        return None
    metric, value = next(iter(task.metrics.items()))
    fields = {
        "metric": metric,
        "value": value.value,
        "low": value.low,
        "high": value.high,
        "examples": task.num_examples,
        "errors": task.num_errors,
        "seconds": round(seconds(folder, run.task)),
    }
    return fields | ({} if task.chance is None else {"chance": task.chance})


def stored_value(run: Run, out: Path) -> float | None:
    """The main metric of the stored weights on the examples that `run` has; None for a metric of the whole text."""
    folder = run._replace(is_unpacked=False).folder(out)
    task = load_results(folder).tasks.get(run.task) if (folder / "results.json").exists() else None
    return None if task is None else value_of_first(task, run.limit)


def value_of_first(task: TaskResults, count: int) -> float | None:
    """The main metric over the first `count` examples, if it is a ratio of sums of the rows."""
    metric = next(iter(task.metrics))
    rows = itertools.islice(task.rows, count)
    shares = [
        Share(*row["score"]["shares"][metric]) for row in rows if metric in row.get("score", {"shares": {}})["shares"]
    ]
    return estimate(shares).value if shares else None


def seconds(folder: Path, task: str) -> float:
    """How long the answers of a task took, over all commands that worked on it."""
    total, last = 0.0, 0.0
    for line in read_jsonl(folder / PROGRESS):
        if line["task"] != task:
            continue
        if "waiting" in line:
            total, last = total + last, 0.0
        last = max(last, line.get("seconds", 0.0))
    return total + last


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", required=True, help="the published files, one folder")
    folder = Path(os.environ.get("QW_WEIGHTS", "~/.cache/qianwen-weights")).expanduser()
    parser.add_argument("--weights", type=Path, default=folder, help="the folder of the GGUF files")
    parser.add_argument("--out", type=Path, default=Path("runs/evaluate-weights"))
    parser.add_argument("--only", nargs="*", default=[], help="names of runs, such as 0.5B/mmlu")
    parser.add_argument("--report", action="store_true", help="run nothing, only read the folder")
    parser.add_argument("--quick", action="store_true", help="8 examples of the tasks with likelihoods, 0.5B")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    runs = [run for run in RUNS if not options.only or run.name in options.only]
    if options.quick:
        runs = [Run("0.5B", "mmlu"), Run("0.5B", "ceval")]
        options.out = options.out / "quick"
    report = Report("published benchmarks on real weights", "share")
    for run in runs:
        if not options.report:
            evaluate(run, options)
        if fields := measured(run, options.out):
            if run.is_unpacked and (value := stored_value(run, options.out)) is not None:
                fields["stored"] = value
            if run.name in PUBLISHED:
                fields["published"] = PUBLISHED[run.name]
            report.note(run.name, fields)
            print(json.dumps({run.name: fields}, ensure_ascii=False), flush=True)
    report.finish({}, options.json)


if __name__ == "__main__":
    main()
