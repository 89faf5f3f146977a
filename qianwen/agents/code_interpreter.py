"""The code interpreter: a tool that runs Python in a notebook of its own, inside the sandbox (report, section 3.4).

    Action: code_interpreter
    Action Input: {"code": "import pandas as pd\nprint(pd.read_csv('sales.csv').sales.sum())"}
    Observation: 1204

Each run has its own kernel, which starts with the first cell. Variables last as long as the kernel. After an
interruption of the agent, or when many runs are active, the next cell has a new kernel and its observation says so.
The texts of observations are for the model, so they are in English.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from qianwen.agents.cell_variables import assigned, listing
from qianwen.agents.tool import CallContext, Observation, Tool
from qianwen.chat.code_blocks import code_blocks
from qianwen.chat.messages import FunctionSpec
from qianwen.sandbox.cell import CellResult
from qianwen.sandbox.ipython import LIMITS, LOST, Kernel
from qianwen.sandbox.process import Sandbox
from qianwen.sandbox.running import Backend

NAME = "code_interpreter"
DESCRIPTION = (
    "Runs Python code and returns what it printed. Variables are kept for the next call. Print what you need. numpy, "
    "pandas and matplotlib are installed, and files of the conversation can be opened by their names. Figures are "
    "shown to the user."
)
MAX_KERNELS = 8  # of different runs at the same time; the one that waited longest is ended
MARK = ".interpreter"  # a file in the folder of a run that says that a kernel was started for it
NOTHING = "The code ran without an error and printed nothing. Use print() to see a value."
VARIABLES = "Nothing was printed. Variables of this cell:"
LISTING_SECONDS = 5.0


def code_interpreter(
    *, sandbox: str = "auto", seconds: float = 30.0, memory_mb: int = LIMITS.memory_bytes >> 20
) -> Tool:
    """The tool. `seconds` limit a cell. ConfigError if no sandbox works here, or a package is missing.

    `sandbox` names a back-end; "landlock", which is weaker, is used only if it is named.
    """
    kernels = Kernels(Sandbox.open(sandbox), seconds, memory_mb << 20)  # type: ignore[arg-type]  # it checks the name
    schema = {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    return Tool(
        spec=FunctionSpec(NAME, DESCRIPTION, schema, name_for_human="code interpreter", args_format="code"),
        run=kernels.run,
        effect="none",  # the sandbox has no network, and the files are copies
        is_trusted=False,  # files of strangers may be printed
        is_stateful=True,
        close=kernels.close,
    )


class Kernels:
    """A kernel for each run, by its folder. Threads may share it."""

    def __init__(self, sandbox: Sandbox, seconds: float, memory_bytes: int) -> None:
        self._sandbox, self._seconds = sandbox, seconds
        self._limits = replace(LIMITS, memory_bytes=memory_bytes)
        self._kernels: OrderedDict[Path, Kernel] = OrderedDict()
        self._lock = threading.Lock()
        Kernel.open(sandbox, Path(), self._limits)  # an error belongs before the first cell

    @property
    def backend(self) -> Backend:
        return self._sandbox.backend

    def run(self, arguments: Mapping[str, Any], context: CallContext) -> Observation:
        """Run the code of a call, and describe the result."""
        blocks = code_blocks(arguments["code"]) if "```" in arguments["code"] else []
        kernel, was_lost = self._kernel(context.folder)
        code = blocks[0] if blocks else arguments["code"]
        result = kernel.run(code, max(0.1, min(self._seconds, context.seconds)))
        text = described(result, variables(kernel, code, result))
        return Observation(
            f"{LOST}\n{text}" if was_lost and LOST not in result.notes else text,
            is_error=result.status != "ok",
            files=(*result.figures, *result.files),
        )

    def close(self) -> None:
        """End all kernels."""
        with self._lock:
            kernels = list(self._kernels.values())
            self._kernels.clear()
        for kernel in kernels:
            kernel.close()

    def _kernel(self, folder: Path) -> tuple[Kernel, bool]:
        """The kernel of a run, and whether an earlier one of it is gone with its variables."""
        with self._lock:
            if kernel := self._kernels.get(folder):
                self._kernels.move_to_end(folder)
                return kernel, False
            was_lost = (folder / MARK).exists()
            (folder / MARK).touch()
            kernel = self._kernels[folder] = Kernel.open(self._sandbox, folder, self._limits)
            oldest = self._kernels.popitem(last=False)[1] if len(self._kernels) > MAX_KERNELS else None
        if oldest:
            oldest.close()
        return kernel, was_lost


def variables(kernel: Kernel, code: str, result: CellResult) -> str:
    """The values that a cell computed, if it worked and printed nothing; models often forget to print."""
    names = assigned(code)
    if result.status != "ok" or result.stdout.strip() or result.result.strip() or not names:
        return ""
    listed = kernel.run(listing(names), LISTING_SECONDS)
    return f"{VARIABLES}\n{listed.stdout.strip()}" if listed.status == "ok" and listed.stdout.strip() else ""


def described(result: CellResult, values: str = "") -> str:
    """What the model reads about a cell: its output, value and error, then names of figures and files, then notes.

    `values` are the variables of a cell that printed nothing.
    """
    parts = [result.stdout.strip("\n"), result.result.strip("\n"), values]
    if result.error:
        parts.append(result.error.traceback.strip() or f"{result.error.name}: {result.error.value}")
    elif result.stderr.strip():
        parts.append(f"Warnings:\n{result.stderr.strip()}")
    parts += [f"![{figure.stem}]({figure.name})" for figure in result.figures]
    if result.files:
        parts.append("Files written: " + ", ".join(path.name for path in result.files))
    parts += result.notes
    return "\n".join(part for part in parts if part) or NOTHING
