"""An optional judge over what goes in and what comes out (`--guard module:function`).

A guard is `text -> reason to refuse it, or None`. A refused prompt is a 400 with the reason; a refused answer ends with
finish_reason "content_filter" before the refused text is sent. Answers are judged from their beginning, so streamed
text is held back until the guard has seen it: in pieces of `PIECE` characters, and whole at the end.
"""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Callable

from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.language import tr

Guard = Callable[[str], str | None]
PIECE = 160  # characters that may wait for a verdict


def load_guard(name: str) -> Guard:
    """The function that `module:function` names."""
    module, _, function = name.partition(":")
    try:
        guard = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(tr("--guard {name}: {reason}; write module:function", name=name, reason=error)) from error
    if not callable(guard):
        raise ConfigError(tr("--guard {name} is not a function", name=name))
    return guard


async def check_prompt(guard: Guard | None, text: str) -> None:
    """Raise a 400 that tells the guard's reason."""
    if guard is not None and (reason := await asyncio.to_thread(guard, text)):
        raise RequestError(tr("the guard refused this prompt: {reason}", reason=reason), code="content_filter")


class GuardedText:
    """The text of one answer on its way out."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._text, self._num_sent = "", 0
        self.reason: str | None = None  # why the rest was withheld

    async def feed(self, text: str, is_last: bool) -> str:
        """Text that may be sent now; nothing more once the guard has refused."""
        if self.reason is not None:
            return ""
        self._text += text
        if not is_last and len(self._text) - self._num_sent < PIECE:
            return ""
        self.reason = await asyncio.to_thread(self._guard, self._text)
        if self.reason is not None:
            return ""
        sent, self._num_sent = self._text[self._num_sent :], len(self._text)
        return sent
