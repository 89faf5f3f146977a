"""An optional content filter for prompts and answers (`--guard module:function`, or `--guard FOLDER`).

A guard is a function `text -> reason to refuse it, or None`, or the safety classifier in a folder that `qianwen data
train-filter` wrote. A refused prompt is a 400 with the reason. A refused answer ends with finish_reason
"content_filter" before the refused text is sent; a chat message has the reason as its `refusal`.

The guard always gets the answer from its beginning. Streamed text is held back, with its log-probabilities, until the
guard has checked it: every `PIECE_LEN` characters, and once more at the end.
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
PIECE_LEN = 160  # characters that are held back before the guard is called
MIN_SAFETY_SCORE = 0.5  # of the safety classifier, 0 to 1


def load_guard(name: str) -> Guard:
    """The guard `module:function`, or the safety classifier in a folder."""
    if Path(name).is_dir():
        return safety_guard(name)
    module, _, function = name.partition(":")
    try:
        guard = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            tr("cannot load --guard {name} ({reason}); use MODULE:FUNCTION or a folder", name=name, reason=error)
        ) from error
    if not callable(guard):
        raise ConfigError(tr("--guard {name} is not a function; use MODULE:FUNCTION", name=name))
    return guard


def safety_guard(folder: str) -> Guard:
    """A guard that refuses text below MIN_SAFETY_SCORE. ConfigError if the folder has no safety classifier."""
    score = safety(folder)

    def judge(text: str) -> str | None:
        [safety_score] = score([text])
        message = "blocked: safety score {score:.2f} (minimum {minimum:g})"
        is_blocked = safety_score < MIN_SAFETY_SCORE
        return tr(message, score=safety_score, minimum=MIN_SAFETY_SCORE) if is_blocked else None

    return judge


async def check_prompt(guard: Guard | None, text: str) -> None:
    """Raise a 400 with the guard's reason if it refuses the prompt."""
    if guard is not None and (reason := await asyncio.to_thread(guard, text)):
        raise RequestError(tr("the guard refused this prompt: {reason}", reason=reason), code="content_filter")


class GuardedText:
    """Holds back the text of one answer until the guard has checked it; `prefix` was sent before."""

    def __init__(self, guard: Guard, prefix: str = "") -> None:
        self._guard = guard
        self._text, self._num_sent = prefix, len(prefix)
        self._logprobs: tuple[TokenLogprob, ...] = ()
        self.reason: str | None = None  # why the rest of the answer is not sent

    async def feed(self, output: Output) -> Output:
        """The output with the text that may be sent now. After a refusal the text is empty."""
        is_last = output.finish_reason is not None
        self._text += output.text
        self._logprobs += output.logprobs
        if self.reason is None and (is_last or len(self._text) - self._num_sent >= PIECE_LEN):
            self.reason = await asyncio.to_thread(self._guard, self._text)
            if self.reason is None:
                text, logprobs = self._text[self._num_sent :], self._logprobs
                self._num_sent, self._logprobs = len(self._text), ()
                return replace(output, text=text, logprobs=logprobs)
        reason = "content_filter" if self.reason is not None and is_last else output.finish_reason
        return replace(output, text="", logprobs=(), finish_reason=reason)
