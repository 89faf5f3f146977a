"""The agent tasks: what is asked, with which files and tools, and what a right result is.

`interpreter.json`: a file is computed and plotted in the code interpreter. `tools.json`: three tools, of which at least
two are needed. Questions, files and checks were written before a model saw them and are not changed to suit one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
KINDS = ("interpreter", "tools")
NUMBER = re.compile(r"(?<![A-Za-z0-9_.])[-−]?(?:\d{1,3}(?:[,，]\d{3})+|\d+)(?:\.\d+)?")


@dataclass(frozen=True)
class Answer:
    """A text has it if all `words` are in it, and for each of `numbers` a number within `tolerance`."""

    numbers: tuple[float, ...]
    tolerance: float
    words: tuple[str, ...]

    def missing(self, text: str) -> list[str]:
        """What of the answer is not in the text."""
        written = [float(re.sub("[,，]", "", found).replace("−", "-")) for found in NUMBER.findall(text)]
        numbers = [right for right in self.numbers if not any(abs(n - right) <= self.tolerance for n in written)]
        return [f"{number:g}" for number in numbers] + [word for word in self.words if word not in text]


@dataclass(frozen=True)
class AgentTask:
    """`tools` names functions of `services.py` or tools of the package; `figure` is the check of `figures.py`."""

    kind: str
    name: str
    question: str
    answer: Answer
    files: tuple[Path, ...] = ()
    tools: tuple[str, ...] = ()
    figure: Mapping[str, Any] | None = None


def read_tasks(kind: str) -> list[AgentTask]:
    """The ten tasks of a kind."""
    rows = json.loads((HERE / f"{kind}.json").read_text(encoding="utf-8"))
    return [_task(kind, row) for row in rows]


def _task(kind: str, row: Mapping[str, Any]) -> AgentTask:
    answer = Answer(tuple(row["answer"]["numbers"]), row["answer"]["tolerance"], tuple(row["answer"]["words"]))
    files = tuple(HERE / "files" / name for name in row["files"])
    tools = tuple(row.get("tools", ()))
    return AgentTask(kind, row["name"], row["question"], answer, files, tools, row.get("figure"))
