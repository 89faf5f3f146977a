"""Agents with real weights: ten tasks in the code interpreter and ten with three tools, all at once in one engine.

    python benchmarks/agents_real.py [--model FILE.gguf] [--seeds 3] [--formats own,react,adapter] [--adapter RUN]

Formats: `own` is the model's own (for Qwen2.5 `<tool_call>`; calls in plain JSON are read too), `react` is ReAct with
worked examples in the prompt, `adapter` is ReAct as the adapter of `tool_calls.py` learned it. A task is solved if the
checks of `agent_tasks` pass; they were fixed before the first run. Bars, for the model's own format: on average seven
of ten tasks of each kind, and no seed more than two tasks below that average.

Every transcript is kept in `--out`. A run that was stopped goes on with the same command: finished tasks are read, and
the others go on from their last step. At the end docs/agents.md and its pictures are written (`--page no`: not).
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

from agent_tasks import services
from agent_tasks.checks import Work, failures
from agent_tasks.tasks import KINDS, AgentTask, read_tasks
from pairs import Report, arguments

from qianwen.agents.agent import Agent
from qianwen.agents.arguments import read_arguments
from qianwen.agents.attachments import attach, with_files
from qianwen.agents.budget import Budget
from qianwen.agents.calls import Ask
from qianwen.agents.code_interpreter import code_interpreter
from qianwen.agents.journal import Journal
from qianwen.agents.policy import Policy
from qianwen.agents.step import Answer, Call, End, Result, Step, to_record
from qianwen.agents.tool import Tool
from qianwen.agents.tools.calculator import calculator
from qianwen.agents.tools.files import files
from qianwen.agents.tools.functions import function_tool
from qianwen.chat.messages import Message, ToolCall
from qianwen.engine.llm import LLM
from qianwen.runtime.errors import QianwenError, RequestError

MODEL = "~/.cache/qianwen-weights/qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
BAR, SPREAD = 7.0, 2  # tasks of ten: the least mean, and how far a seed may be below it
BUDGET = Budget(calls=10, tokens=4000, seconds=3600)
SAMPLING = {"temperature": 0.3, "max_tokens": 800}
FORMATS: Mapping[str, Mapping[str, Any]] = {
    "own": {},
    "react": {"function_style": "react"},  # with `EXAMPLES`
    "adapter": {"function_style": "react", "adapter": "adapter"},
}
CHANGES = ("reserve_book",)
CELL = "import pandas as pd\nd = pd.read_csv('rain.csv')\nprint(d.mm.sum())\nd.plot.bar(x='month', y='mm')"
EXAMPLES = {  # of other questions, for ReAct
    "interpreter": [
        Message("user", "What is the sum of mm in rain.csv? Draw a bar chart of mm by month.", name="example"),
        Message("assistant", "I add up the column and draw it.", tool_calls=(ToolCall("code_interpreter", CELL),)),
        Message("tool", "stdout:\n\n```\n234\n```\n\n![fig-001](fig-001.png)"),
        Message("assistant", "The sum of mm is 234. The bar chart is shown above."),
    ],
    "tools": [
        Message("user", "How many years old is the town hall of Riva?", name="example"),
        Message(
            "assistant",
            "I need the year in which it was built.",
            tool_calls=(ToolCall("year_built", '{"building": "town hall of Riva"}'),),
        ),
        Message("tool", "1874"),
        Message("assistant", "Now I need the year of today.", tool_calls=(ToolCall("current_year", "{}"),)),
        Message("tool", "2025"),
        Message(
            "assistant",
            "I subtract 1874 from 2025.",
            tool_calls=(ToolCall("calculator", '{"expression": "2025 - 1874"}'),),
        ),
        Message("tool", "151"),
        Message("assistant", "The town hall of Riva is 151 years old."),
    ],
}


def tools_of(task: AgentTask) -> list[Tool]:
    """The tools that a task offers. The services are trusted: nobody else wrote what they return."""
    if task.kind == "interpreter":
        return [code_interpreter()]
    return [tool for name in task.tools for tool in _tools(name)]


def _tools(name: str) -> list[Tool]:
    if name in ("calculator", "read_file"):
        return [tool for tool in (*calculator(), *files()) if tool.name == name]
    effect = "changes" if name in CHANGES else "none"
    return [function_tool(getattr(services, name), effect=effect, is_trusted=True)]


def run_task(task: AgentTask, seed: int, model: LLM, journal: Journal, sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Run a task, or go on with it, and return its transcript with what the checks say."""
    name = f"{task.kind}-{task.name}-{seed}".replace(" ", "-")
    with ExitStack() as stack:
        tools = tools_of(task)
        for tool in tools:
            if tool.close is not None:
                stack.callback(tool.close)
        policy = Policy(dict.fromkeys(("none", "reads", "sends", "changes"), "allow"))
        agent = Agent(
            model,
            tools,
            journal=journal,
            budget=BUDGET,
            policy=policy,
            sampling=sampling,
        )
        began = time.perf_counter()
        with closing(_events(agent, task, name)) as events:
            for event in events:
                if isinstance(event, Ask):
                    journal.answer(event.key, True)
    steps = journal.steps(name)
    if isinstance(steps[-1], End) and steps[-1].reason == "error":
        raise RequestError(steps[-1].detail)  # not the model's fault: the same command tries again
    work = work_of(steps, tools, journal.files(name))
    return {
        "kind": task.kind,
        "task": task.name,
        "seed": seed,
        "question": task.question,
        "failures": failures(task, work),
        "is_answered": not task.answer.missing(work.answer),
        "seconds": round(time.perf_counter() - began, 1),
        "tokens": journal.spent(name, 0)[0],
        "steps": [to_record(step) for step in steps],
        "pictures": [str(path) for path in work.pictures],
    }


def _events(agent: Agent, task: AgentTask, run: str):  # noqa: ANN202  a generator of events
    if run in {saved.id for saved in agent.journal.runs()}:
        return agent.resume(run)
    agent.journal.create_run(agent.name, run)
    names = attach(task.files, agent.journal.files(run))
    examples = EXAMPLES[task.kind] if agent.sampling.get("function_style") == "react" else []
    return agent.run([*examples, Message("user", with_files(task.question, names))], run)


def work_of(steps: Sequence[Step], tools: Sequence[Tool], folder: Path) -> Work:
    """What the checks look at."""
    specs = {tool.name: tool.spec for tool in tools}
    answer = "\n".join(step.text for step in steps if isinstance(step, Answer))
    results = [step for step in steps if isinstance(step, Result)]
    done = {result.call_id for result in results if result.status == "done"}
    cells = []
    for step in steps:
        if isinstance(step, Call) and step.call.id in done and "code" in str(specs[step.call.name].parameters):
            cells += [str(value) for value in read_arguments(step.call, specs[step.call.name]).values()][:1]
    files = [path if path.is_absolute() else folder / path for result in results for path in result.observation.files]
    pictures = tuple(path for path in files if path.suffix == ".png" and path.is_file())
    return Work(answer, tuple(result.observation.text for result in results), tuple(cells), pictures)


def run_all(model: LLM, name: str, sampling: Mapping[str, Any], seeds: Sequence[int], out: Path) -> list[dict]:
    """Every task with every seed, side by side. Those that are finished are read."""
    out.mkdir(parents=True, exist_ok=True)
    journal = Journal(out / "runs")
    todo = [(task, seed) for seed in seeds for kind in KINDS for task in read_tasks(kind)]

    def one(job: tuple[AgentTask, int]) -> dict[str, Any]:
        task, seed = job
        path = out / f"{task.kind}-{task.name}-{seed}.json"
        if not path.exists():
            transcript = run_task(task, seed, model, journal, sampling) | {"format": name}
            path.write_text(json.dumps(transcript, ensure_ascii=False, indent=1), encoding="utf-8")
            mark = "solved" if not transcript["failures"] else "; ".join(transcript["failures"])
            print(f"{name} {task.kind} {task.name} seed {seed}: {mark}", file=sys.stderr, flush=True)
        return json.loads(path.read_text(encoding="utf-8"))

    with ThreadPoolExecutor(20) as pool:
        transcripts = list(pool.map(one, todo))
    journal.close()
    return transcripts


def solved(transcripts: Sequence[Mapping[str, Any]], kind: str) -> list[int]:
    """How many tasks of a kind each seed solved."""
    seeds = sorted({each["seed"] for each in transcripts})
    return [
        sum(not each["failures"] for each in transcripts if each["kind"] == kind and each["seed"] == seed)
        for seed in seeds
    ]


def main() -> None:
    options = arguments(
        __doc__, model=MODEL, seeds=3, formats="own,react", adapter="", out="runs/agents_real", page="yes"
    )
    names = [name for name in options.formats.split(",") if name != "adapter" or options.adapter]
    seeds = range(1 if options.quick else options.seeds)
    report = Report(f"Agent tasks solved of ten, {Path(options.model).stem}", "tasks")
    model = LLM.load(str(Path(options.model).expanduser()))
    if "adapter" in names:
        model.add_adapter("adapter", options.adapter)
    transcripts: list[dict[str, Any]] = []
    for name in names:
        sampling = {**SAMPLING, **FORMATS[name]}
        try:
            done = run_all(model, name, sampling, list(seeds), Path(options.out) / name)
        except QianwenError as error:
            raise SystemExit(str(error)) from error
        transcripts += done
        for kind in KINDS:
            report.note(f"{name}, {kind}, each seed", solved(done, kind))
            answered = sum(each["is_answered"] for each in done if each["kind"] == kind) / len(seeds)
            report.note(f"{name}, {kind}, right in the answer itself, mean", round(answered, 2))
    ratios = {}
    for kind in KINDS:
        counts = solved([each for each in transcripts if each["format"] == names[0]], kind)
        mean = sum(counts) / len(counts)
        ratios[f"{kind}_mean"] = mean / BAR
        report.note(f"{kind}, no seed more than {SPREAD} below the mean", min(counts) >= mean - SPREAD)
    report.finish(ratios, options.json)
    if options.page == "yes":
        from agents_page import write_page

        write_page(transcripts, Path(options.model).stem)


if __name__ == "__main__":
    main()
