"""The tool `code_interpreter`: the model writes Python, which runs in an IPython kernel inside the sandbox.

A run has a kernel of its own. It starts with the first call and keeps its variables until the tool is closed, or until
other runs need the room. The files of the run are copied into it before each call, and what the code wrote is copied
back. Nothing runs without isolation: where no sandbox works, making the tool is a ConfigError with the reasons.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from qianwen.agents.cell_variables import assigned, listing
from qianwen.agents.tool import CallContext, Observation, Tool
from qianwen.chat.code_blocks import code_blocks
from qianwen.chat.messages import FunctionSpec
from qianwen.runtime.errors import ConfigError, ToolError
from qianwen.sandbox import fonts
from qianwen.sandbox.cell import CellResult
from qianwen.sandbox.ipython import LIMITS, Kernel
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Sandbox
from qianwen.sandbox.running import Backend

MAX_KERNELS = 8  # at the same time, of one tool; each may need hundreds of megabytes
MARK = ".interpreter"  # a file in the folder of a run that says that it had a kernel
LISTING_SECONDS = 5.0
MAX_WARNINGS = 1000  # characters of standard error
MISSING_GLYPH = "missing from"  # matplotlib: "Glyph 20013 (\N{CJK UNIFIED IDEOGRAPH-4E2D}) missing from font(s) …"
NO_FONT = "No font with Chinese characters is installed here: write the labels of figures in English."

# `zh` has the words of Qwen v1's release, with which its chat models were trained.
NAMES = {"en": "code interpreter", "zh": "代码解释器"}
ABOUT = {
    "en": "Runs Python code in a Jupyter kernel. Variables last from call to call. Uploaded files are in the current "
    "folder. Print what you want to see. numpy, pandas and matplotlib are installed; plt.show() shows a figure.",
    "zh": "代码解释器，可用于执行Python代码。",
}
CODE = {"en": "the code to run", "zh": "待执行的代码"}


def code_interpreter(
    *,
    sandbox: Literal["auto"] | Backend = "auto",
    seconds: float = 30.0,
    language: Literal["en", "zh"] = "en",
    limits: Limits = LIMITS,
    max_kernels: int = MAX_KERNELS,
) -> Tool:
    """The tool. `seconds` is the time of one call, `language` that of the tool's description.

    Of more than `max_kernels` runs side by side, the one that waited longest loses its variables.

    It has no effect outside of the sandbox and the files of the run. It is not trusted: what it prints may come from a
    file that a stranger wrote.
    """
    kernels = _Kernels(Sandbox.open(sandbox), limits, max_kernels)

    def run(arguments: Mapping[str, Any], context: CallContext) -> Observation:
        try:
            kernel = kernels.of(context.folder)
            code = code_of(arguments["code"])
            result = kernel.run(code, max(1.0, min(seconds, context.seconds)))
            values = variables(kernel, code, result)
        except ConfigError as error:
            raise ToolError(str(error)) from error
        text = observation_text(result, context.folder, values)
        return Observation(text, is_error=result.status != "ok", files=(*result.figures, *result.files))

    parameters = {
        "type": "object",
        "properties": {"code": {"type": "string", "description": CODE[language]}},
        "required": ["code"],
    }
    spec = FunctionSpec(
        name="code_interpreter",
        description=ABOUT[language],
        parameters=parameters,
        name_for_human=NAMES[language],
        args_format="code",
    )
    return Tool(spec=spec, run=run, effect="none", is_stateful=True, close=kernels.close)


class _Kernels:
    """The kernel of each run, by its folder. The one that was not used for longest is ended where there are many."""

    def __init__(self, sandbox: Sandbox, limits: Limits, max_kernels: int) -> None:
        self._sandbox, self._limits, self._max_kernels = sandbox, limits, max_kernels
        self._kernels: OrderedDict[Path, Kernel] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, folder: Path) -> Kernel:
        with self._lock:
            if folder not in self._kernels:
                mark = folder / MARK
                has_lost_state = mark.exists()  # a kernel of another process, or one that was ended to make room
                self._kernels[folder] = Kernel.open(self._sandbox, folder, self._limits, has_lost_state=has_lost_state)
                mark.touch()
            self._kernels.move_to_end(folder)
            surplus = [self._kernels.popitem(last=False)[1] for _ in range(len(self._kernels) - self._max_kernels)]
            kernel = self._kernels[folder]
        for each in surplus:
            each.close()
        return kernel

    def close(self) -> None:
        with self._lock:
            kernels = list(self._kernels.values())
            self._kernels.clear()
        for kernel in kernels:
            kernel.close()


def code_of(text: str) -> str:
    """The code in an argument: without the fence around it, if there is one."""
    blocks = code_blocks(text) if text.lstrip().startswith("```") else []
    return blocks[0] if blocks else text


def variables(kernel: Kernel, code: str, result: CellResult) -> str:
    """The values that a cell computed, if it worked and showed none of them: models often forget to print."""
    names = assigned(code)
    if result.status != "ok" or result.stdout.strip() or result.result.strip() or not names:
        return ""
    return kernel.run(listing(names), LISTING_SECONDS).stdout


def observation_text(result: CellResult, folder: Path, values: str = "") -> str:
    """What the model reads about a call: blocks of output, the names of figures and files, and notes.

    `values` are the variables of a cell that printed nothing.
    """
    blocks = [("stdout", result.stdout), ("stderr", result.stderr[-MAX_WARNINGS:]), ("execute_result", result.result)]
    blocks.append(("nothing was printed; variables of this cell", values))
    if result.error:
        blocks.append(("error", result.error.traceback or f"{result.error.name}: {result.error.value}"))
    parts = [f"{name}:\n\n```\n{text}\n```" for name, text in blocks if text.strip()]
    parts += [f"![{path.stem}]({path.relative_to(folder).as_posix()})" for path in result.figures]
    if result.files:
        names = ", ".join(path.relative_to(folder).as_posix() for path in result.files)
        parts.append(f"Files written: {names}")
    parts += result.notes
    if MISSING_GLYPH in result.stderr and not fonts.has_chinese():
        parts.append(NO_FONT)
    return "\n\n".join(parts) or "The code ended without output."
