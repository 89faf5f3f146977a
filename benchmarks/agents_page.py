"""docs/agents.md: what an agent with real weights did, from the transcripts of `agents_real.py`.

The transcripts of the first seed are shown in full, whatever they are; no run is chosen. Pictures are those that came
back from the code interpreter, in fewer colours, and at most one a task.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PAGE, PICTURES = ROOT / "docs" / "agents.md", ROOT / "docs" / "images" / "agents"
KEPT = ROOT / "benchmarks" / "results" / "agents_real"  # every transcript, a line each
NAMES = {
    "own": "the model's own format",
    "react": "ReAct with worked examples",
    "adapter": "ReAct with the adapter of `tool_calls.py`",
}
TITLES = {"interpreter": "A file computed and plotted in the code interpreter", "tools": "Three tools, several steps"}
MAX_LINES, MAX_WIDTH, COLOURS = 16, 640, 64
Transcript = Mapping[str, Any]


def write_page(transcripts: Sequence[Transcript], model: str) -> None:
    """The page, its pictures, and every transcript as a line of JSON."""
    shutil.rmtree(PICTURES, ignore_errors=True)
    PICTURES.mkdir(parents=True)
    lines = [
        "# Agents with real weights",
        "",
        f"{model} on two cores, all tasks at once in one engine. The questions, files and checks are in",
        "[benchmarks/agent_tasks](../benchmarks/agent_tasks) and were committed before the first run. How calls are",
        "read from a reply, and what a silent cell shows, were improved while looking at trial runs with seed 0.",
        "This page is written by `python benchmarks/agents_real.py`; no run is chosen, and no transcript is edited.",
        "",
        *_table(transcripts),
        "",
        "A task of the interpreter is solved if the right number is in the answer or was printed by a cell, and a",
        "picture came back whose data are those that were asked for. *In the answer*: the number is in the answer",
        "itself. A task with tools is solved if the answer is right.",
    ]
    own = [each for each in transcripts if each["format"] == transcripts[0]["format"]]
    first = min(each["seed"] for each in own)
    for kind, title in TITLES.items():
        lines += ["", f"## {title}"]
        for each in own:
            if each["kind"] == kind and each["seed"] == first:
                lines += ["", *_transcript(each, own)]
    PAGE.write_text(_without_places("\n".join(lines)) + "\n", encoding="utf-8")
    _keep(transcripts)


def _keep(transcripts: Sequence[Transcript]) -> None:
    KEPT.mkdir(parents=True, exist_ok=True)
    for name in dict.fromkeys(each["format"] for each in transcripts):
        rows = [{**each, "pictures": len(each["pictures"])} for each in transcripts if each["format"] == name]
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (KEPT / f"{name}.jsonl").write_text(_without_places(text), encoding="utf-8")


def _without_places(text: str) -> str:
    """The text without the folders of this machine: those of runs, and that of Python."""
    text = re.sub(r"/[^\s\"]*?/runs/[^\s\"]+?/files/", "", text)
    return text.replace(sys.prefix, "(Python)").replace(sys.base_prefix + "/lib", "(Python)/lib")


def _table(transcripts: Sequence[Transcript]) -> Iterator[str]:
    seeds = sorted({each["seed"] for each in transcripts})
    yield "| tasks solved of ten | " + " | ".join(f"seed {seed}" for seed in seeds) + " | mean | in the answer |"
    yield "|---|" + "---|" * (len(seeds) + 2)
    for name in dict.fromkeys(each["format"] for each in transcripts):
        for kind in TITLES:
            rows = [each for each in transcripts if each["format"] == name and each["kind"] == kind]
            counts = [sum(not each["failures"] for each in rows if each["seed"] == seed) for seed in seeds]
            answered = sum(each["is_answered"] for each in rows) / len(seeds)
            cells = [*map(str, counts), f"{sum(counts) / len(seeds):.1f}", f"{answered:.1f}"]
            yield f"| {kind}, {NAMES[name]} | " + " | ".join(cells) + " |"


def _transcript(each: Transcript, own: Sequence[Transcript]) -> Iterator[str]:
    same = [other for other in own if (other["kind"], other["task"]) == (each["kind"], each["task"])]
    count = sum(not other["failures"] for other in same)
    yield f"### {each['task']}: solved with {count} of {len(same)} seeds"
    yield ""
    yield f"> {each['question']}"
    for step in each["steps"]:
        yield from _step(step)
    if picture := _picture(each):
        yield f"\n![{each['task']}](images/agents/{picture})"
    verdict = "Solved." if not each["failures"] else "Not solved: " + "; ".join(each["failures"]) + "."
    yield f"\n**{verdict}** {each['tokens']} tokens written."


def _step(step: Mapping[str, Any]) -> Iterator[str]:
    match step["kind"]:
        case "thought" if step["text"].strip():
            yield "\n" + _quoted(step["text"])
        case "call":
            yield f"\n`{step['name']}`\n"
            yield from _fenced(_readable(step["arguments"]))
        case "result":
            yield "\nresult:\n" if step["status"] == "done" else f"\nresult ({step['status']}):\n"
            yield from _fenced(step["text"])
        case "answer":
            yield "\nanswer:\n\n" + _quoted(step["text"])
        case "end" if step["reason"] != "answered":
            yield f"\nThe run ended: {step['reason']}."


def _readable(arguments: str) -> str:
    """The one argument alone, if there is one; code is shown as code."""
    try:
        values = json.loads(arguments)
    except ValueError:
        return arguments
    return str(next(iter(values.values()))) if isinstance(values, dict) and len(values) == 1 else arguments


def _fenced(text: str) -> Iterator[str]:
    lines = text.strip("\n").replace("```", "'''").splitlines()
    if len(lines) > MAX_LINES * 2:
        lines = [*lines[:MAX_LINES], f"… {len(lines) - 2 * MAX_LINES} lines …", *lines[-MAX_LINES:]]
    yield from ("```text", *(line[:160] for line in lines), "```")


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())


def _picture(each: Transcript) -> str:
    """The last picture of a run, smaller, in docs/images/agents; empty if it has none."""
    if not each["pictures"]:
        return ""
    name = f"{each['kind']}-{each['task']}.png".replace(" ", "-")
    with Image.open(each["pictures"][-1]) as picture:
        small = picture.convert("RGB")
        small.thumbnail((MAX_WIDTH, MAX_WIDTH))
        small.quantize(COLOURS, dither=Image.Dither.NONE).save(PICTURES / name, optimize=True)
    return name
