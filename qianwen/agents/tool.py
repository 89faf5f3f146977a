"""What a tool is: a function that a model may call, and what it does to the world.

A tool's `effect` is what the policy decides by. It is "changes" unless its author says that it is less:

    none       computes from its arguments alone: nothing outside is read, sent or changed
    reads      reads what belongs to the user, such as a file
    sends      its arguments leave this machine, such as the address of a web page
    changes    changes something outside of the run: a file of the user, an order, a message

A tool raises ToolError for what the model can put right (a file that does not exist). Any other exception is a fault of
the tool: the model learns that the tool failed, and the user sees why.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from qianwen.chat.messages import FunctionSpec

Effect = Literal["none", "reads", "sends", "changes"]


@dataclass(frozen=True)
class Observation:
    """The result of a call: text for the model, and files for the user, which are in the folder of the run."""

    text: str
    is_error: bool = False
    files: tuple[Path, ...] = ()


@dataclass(frozen=True)
class CallContext:
    """What a tool may know about the run that calls it."""

    key: str  # the same when an interrupted call is made again: a service can use it to do nothing twice
    folder: Path  # the files of the run: those that the user gave and those that tools made
    seconds: float  # time that is left; the tool ends within it


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A function with its description for the model.

    `run` gets arguments that satisfy the schema of `spec`. `outcome`, if a tool has it, returns the observation of the
    call with a key, or None if that call was never made; it is asked after an interruption. `close` frees what the tool
    holds, such as a process.
    """

    spec: FunctionSpec
    run: Callable[[Mapping[str, Any], CallContext], Observation]
    effect: Effect = "changes"
    is_trusted: bool = False  # its results never contain text that a stranger wrote, such as a web page or a file
    is_stateful: bool = False  # a call depends on the calls before it, so calls of one reply are made one by one
    outcome: Callable[[str], Observation | None] | None = None
    close: Callable[[], None] | None = None

    @property
    def name(self) -> str:
        return self.spec.name
