"""An optional judge over what goes in and what comes out (`--guard module:function`, or `--guard FOLDER`).

A guard is `text -> reason to refuse it, or None`; a folder that `qianwen data train-filter` wrote is one by its safety
classifier. A refused prompt is a 400 with the reason; a refused answer ends with
finish_reason "content_filter" before the refused text is sent, and a chat's message says the reason as its `refusal`.
Answers are judged from their beginning, so streamed text is held back, with its log-probabilities, until the guard has
seen it: in pieces of `PIECE` characters, and whole at the end.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from qianwen.data.filters.vote import safety
from qianwen.engine.llm_engine import Output
from qianwen.engine.sampling import TokenLogprob
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr

Guard = Callable[[str], str | None]
PIECE = 160  # characters that may wait for a verdict
LEAST_SAFE = 0.5  # of the safety classifier


def load_guard(name: str) -> Guard:
    """The function that `module:function` names, or the safety classifier in a folder."""
    if Path(name).is_dir():
        return safety_guard(name)
    module, _, function = name.partition(":")
    try:
        guard = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(tr("--guard {name}: {reason}; write module:function", name=name, reason=error)) from error
    if not callable(guard):
        raise ConfigError(tr("--guard {name} is not a function", name=name))
    return guard


def safety_guard(folder: str) -> Guard:
    """Refuse what the classifier thinks is rather not fit to be learned from. ConfigError for a folder without one."""
    score = safety(folder)

    def judge(text: str) -> str | None:
        [worth] = score([text])
        return tr("the safety classifier gives it {worth:.2f} of 1", worth=worth) if worth < LEAST_SAFE else None

    return judge


async def check_prompt(guard: Guard | None, text: str) -> None:
    """Raise a 400 that tells the guard's reason."""
    if guard is not None and (reason := await asyncio.to_thread(guard, text)):
        raise RequestError(tr("the guard refused this prompt: {reason}", reason=reason), code="content_filter")


class GuardedText:
    """The text of one answer on its way out."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._text, self._num_sent = "", 0
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self.reason: str | None = None  # why the rest was withheld

    async def feed(self, output: Output) -> Output:
        """The output with the text that may be sent now; with nothing more once the guard has refused."""
        is_last = output.finish_reason is not None
        self._text += output.text
        self._logprobs += output.logprobs
        if self.reason is None and (is_last or len(self._text) - self._num_sent >= PIECE):
            self.reason = await asyncio.to_thread(self._guard, self._text)
            if self.reason is None:
                sent, logprobs = self._text[self._num_sent :], self._logprobs
                self._num_sent, self._logprobs = len(self._text), ()
                return replace(output, text=sent, logprobs=logprobs)
        reason = "content_filter" if self.reason is not None and is_last else output.finish_reason
        return replace(output, text="", logprobs=(), finish_reason=reason)
