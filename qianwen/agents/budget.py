"""The budget of an agent for one question: calls, tokens and time, and what of it is spent.

A call counts when it is made or denied. A call that could not be understood is free once, so that the model can repair
it; if the repaired call is wrong too, it counts.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from qianwen.agents.step import EndReason, Result, Step, since_given
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


@dataclass(frozen=True)
class Budget:
    """What an agent may spend on one question."""

    calls: int = 20  # then it must answer without tools
    tokens: int = 8192  # that the model writes, thoughts included; what it reads does not count
    seconds: float = 600.0  # of the model and of tools; waiting for the user does not count
    observation_chars: int = 4000  # a longer result of a tool is cut, and the whole is in a file

    def __post_init__(self) -> None:
        for name, least in (("calls", 0), ("tokens", 1), ("seconds", 0), ("observation_chars", 200)):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not value >= least:
                message = "the budget's {name} must be a number of at least {least}; got {value!r}"
                raise ConfigError(tr(message, name=name, least=least, value=value))


class Stopwatch:
    """Adds up the seconds inside its `with` blocks."""

    def __init__(self, seconds: float = 0.0) -> None:
        self._seconds, self._began = seconds, None

    _began: float | None

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._seconds, self._began = self.seconds, None

    @property
    def seconds(self) -> float:
        """All seconds until now."""
        return self._seconds + (0.0 if self._began is None else time.monotonic() - self._began)


def spent_calls(steps: Sequence[Step]) -> int:
    """How many calls count since the last message that the agent was given."""
    count, was_invalid = 0, False
    for step in since_given(steps):
        if isinstance(step, Result):
            is_invalid = step.status == "invalid"
            count += was_invalid if is_invalid else step.status != "skipped"
            was_invalid = is_invalid
    return count


def overspent(budget: Budget, tokens: int, seconds: float) -> EndReason | None:
    """Why the agent must stop at once, if it must."""
    if tokens >= budget.tokens:
        return "tokens"
    return "time" if seconds >= budget.seconds else None
