"""What an agent costs beside its model: a step of the loop, the start of the sandbox, and cells per second.

    python benchmarks/agents.py [--quick] [--json PATH]

A step is one reply of the model with one call, its decision, the call and its result, all in the journal; the model of
this benchmark replies at once. The bounds are 5 ms a step, 250 ms to run an empty program in the sandbox and 2 s until
an interpreter has run its first cell; a ratio is the time that is allowed over the time that was taken.

Cells run in our interpreter (an IPython kernel in the isolation, with its files and figures), in a bare ipykernel
without isolation, and in smolagents' local executor, which has no process to talk to but interprets Python in Python.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from agents_peer import repeat
from measured import measured
from pairs import Pairs, Report, alternate, arguments
from peers import peer_path

from qianwen.agents.agent import Agent
from qianwen.agents.journal import Journal
from qianwen.agents.step import Call
from qianwen.agents.tools.functions import function_tool
from qianwen.chat.messages import FunctionSpec, Message, ToolCall
from qianwen.chat.model import Delta, Usage
from qianwen.sandbox.ipython import Kernel
from qianwen.sandbox.process import Sandbox

PEER = Path(__file__).with_name("agents_peer.py")
CALLS = 20  # of a run, then the model answers
STEP, PROCESS, KERNEL = 0.005, 0.25, 2.0  # seconds allowed
CELLS = {
    "short cells": [
        "x = 6 * 7",
        "x = x + 1\nprint(x)",
        "names = ['a', 'b', 'c']\nlengths = {name: len(name) for name in names}",
        "sum(lengths.values())",
    ],
    "loops": ["total = 0\nfor i in range(50_000):\n    total += i % 7\ntotal"],
    "pandas": [
        "import pandas as pd",
        "d = pd.DataFrame({'k': [i % 5 for i in range(1000)], 'v': list(range(1000))})",
        "print(d.groupby('k').v.mean())",
    ],
}
REPEATS = {"short cells": 50, "loops": 10, "pandas": 20}


class Instant:
    """A chat model that replies at once: a call for each question or result until `CALLS` are made, then an answer."""

    def chat(self, messages: Sequence[Message], functions: Sequence[FunctionSpec] = (), **_: Any) -> Iterator[Delta]:
        made = sum(message.role == "tool" for message in messages)
        if made < CALLS:
            yield Delta(tool_calls=(ToolCall("add", json.dumps({"left": made, "right": 1})),))
            yield Delta(finish_reason="tool_calls", usage=Usage(10, 10))
        else:
            yield Delta(text="done", finish_reason="stop", usage=Usage(10, 1))


def add(left: int, right: int) -> int:
    """The sum of two numbers."""
    return left + right


def step_seconds(folder: Path) -> float:
    """Seconds of a step: the whole run over its calls and its answer."""
    agent = Agent(Instant(), [function_tool(add, effect="none")], journal=Journal(folder))
    began = time.perf_counter()
    steps = list(agent.run("Count."))
    seconds = time.perf_counter() - began
    assert sum(isinstance(step, Call) for step in steps) == CALLS
    return seconds / (CALLS + 1)


def process_seconds(sandbox: Sandbox) -> float:
    """Seconds to run an empty program in the sandbox."""
    began = time.perf_counter()
    assert sandbox.run_python("").status == "ok"
    return time.perf_counter() - began


def kernel_seconds(sandbox: Sandbox) -> float:
    """Seconds until a new interpreter has run its first cell."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        with Kernel.open(sandbox, Path(folder)) as kernel:
            assert kernel.run("1").status == "ok"
            return time.perf_counter() - began


def our_cells_per_second(sandbox: Sandbox, cells: list[str], repeats: int) -> float:
    with tempfile.TemporaryDirectory() as folder, Kernel.open(sandbox, Path(folder)) as kernel:

        def run(cell: str) -> None:
            result = kernel.run(cell)
            assert result.status == "ok", result

        return len(cells) * repeats / repeat(run, cells, repeats)


def peer_cells_per_second(python: str, name: str, cells: list[str], repeats: int) -> float:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump(cells, file)
        file.flush()
        seconds = measured([python, str(PEER), name, file.name, str(repeats)]).seconds
    return len(cells) * repeats / seconds


def bounded(report: Report, name: str, seconds: list[float], allowed: float) -> None:
    report.add(name, Pairs([1 / each for each in seconds], [1 / allowed] * len(seconds)))
    report.note(f"{name} (ms)", [round(1e3 * each, 2) for each in seconds])


def main() -> None:
    options = arguments(__doc__)
    count = 2 if options.quick else options.pairs
    report = Report("Agents beside their model: bounds, and cells per second", "1/s")
    sandbox = Sandbox.open()
    report.note("sandbox", sandbox.backend)
    with tempfile.TemporaryDirectory() as folder:
        step_seconds(Path(folder))
        bounded(report, "step", [step_seconds(Path(folder)) for _ in range(2 * count)], STEP)
    process_seconds(sandbox)
    bounded(report, "process start", [process_seconds(sandbox) for _ in range(2 * count)], PROCESS)
    bounded(report, "kernel start", [kernel_seconds(sandbox) for _ in range(count)], KERNEL)
    peers = {"ipykernel": sys.executable, "smolagents": peer_path("smolagents")}
    for kind, cells in CELLS.items():
        repeats = REPEATS[kind] // 5 if options.quick else REPEATS[kind]
        for name, python in peers.items():
            pairs = alternate(
                lambda cells=cells, repeats=repeats: our_cells_per_second(sandbox, cells, repeats),
                lambda python=python, name=name, cells=cells, repeats=repeats: peer_cells_per_second(
                    python, name, cells, repeats
                ),
                1 if options.quick else options.pairs,
            )
            report.add(f"{kind} vs {name}", pairs)
    report.finish({name.replace(" ", "_"): pairs.ratio for name, pairs in report.rows.items()}, options.json)


if __name__ == "__main__":
    main()
