"""A run of an agent while it works: its steps, its folder, and what it has spent since the last question.

<folder>/<run>/files/     what the user attached and what tools made; tools see this folder
<folder>/<run>/.lock      held while a process works on the run
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from qianwen.agents.budget import Budget, Stopwatch, overspent
from qianwen.agents.journal import Journal
from qianwen.agents.step import End, EndReason, Given, Step
from qianwen.runtime.files import lock


class Run:
    """The steps of a run, as they are in the journal. `add` commits new ones."""

    def __init__(self, journal: Journal, run: str, budget: Budget) -> None:
        self.journal, self.id, self.budget, self.files = journal, run, budget, journal.files(run)
        self.steps: list[Step] = []
        self.tokens, self._saved_seconds, self.watch = 0, 0.0, Stopwatch()

    def load(self) -> None:
        """Read the steps and what was spent from the journal."""
        self.steps = self.journal.steps(self.id)
        start = max((number for number, step in enumerate(self.steps) if isinstance(step, Given)), default=0)
        self.tokens, self._saved_seconds = self.journal.spent(self.id, start)
        self.watch = Stopwatch(self._saved_seconds)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from working on this run, and read what they did before."""
        with lock(self.files.parent):
            self.load()
            yield

    def add(self, *steps: Step, tokens: int = 0) -> None:
        """Commit steps, then show them to the rest of the program."""
        seconds = self.watch.seconds
        number = len(self.steps)
        self.journal.add(self.id, number, steps, tokens=tokens, seconds=seconds - self._saved_seconds)
        self.steps += steps
        self.tokens, self._saved_seconds = self.tokens + tokens, seconds
        if any(isinstance(step, Given) for step in steps):
            self.tokens, self.watch, self._saved_seconds = 0, Stopwatch(), 0.0

    def end(self, reason: EndReason, detail: str = "") -> End:
        """Commit why the work on the last question ends."""
        end = End(reason, detail)
        self.add(end)
        return end

    @property
    def overspent(self) -> EndReason | None:
        """Why the run must stop at once, if it must."""
        return overspent(self.budget, self.tokens, self.watch.seconds)

    @property
    def tokens_left(self) -> int:
        return max(self.budget.tokens - self.tokens, 0)

    @property
    def seconds_left(self) -> float:
        return max(self.budget.seconds - self.watch.seconds, 0.0)

    def call_ids(self, count: int, offset: int) -> list[str]:
        """Ids for the calls that will be the steps from `offset` after the last one on; the same after a kill."""
        return [f"{self.id}-{len(self.steps) + offset + index}" for index in range(count)]

    def seed(self, attempt: int, seed: int | None) -> int:
        """The seed of the next reply. It depends on the user's seed, else on the run, so a killed run goes on alike."""
        text = f"{self.id if seed is None else seed}/{len(self.steps)}/{attempt}"
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) >> 1
