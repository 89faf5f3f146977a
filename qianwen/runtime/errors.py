"""The few kinds of error a user can cause. Each message names the offending value and the remedy.

A mistake only we can make is an `assert`. The command line prints these in one line, without a traceback.
"""

import json
import os
import traceback

from qianwen.runtime.translation import tr

EXCERPT_LEN = 80  # characters of a value that an error quotes


class QianwenError(ValueError):
    """The root: everything below is something the user can put right."""


class ConfigError(QianwenError):
    """A recipe, a field, a folder or a machine that does not fit together."""


class CheckpointError(QianwenError):
    """A weight file or checkpoint that is missing, torn, altered or of an unknown kind."""


class DataError(QianwenError):
    """Input text or records that cannot be read."""


class RequestError(QianwenError):
    """A request to the engine that cannot be served, such as a prompt longer than the context.

    The keywords are what an HTTP answer needs: its status, the field to blame, a code, seconds to wait.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int = 400,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.param, self.code, self.retry_after = status, param, code, retry_after


class ToolError(QianwenError):
    """A tool call that cannot be made, or a tool that failed."""


def excerpt(value: object) -> str:
    """The start of a value as JSON, for a message: `null` and `"text"`, never Python's `None` and `'text'`."""
    try:
        text = json.dumps(value, ensure_ascii=False, default=lambda unknown: type(unknown).__name__)
    except (TypeError, ValueError, RecursionError):  # keys of another type, an object that contains itself
        text = type(value).__name__
    return text if len(text) <= EXCERPT_LEN else text[: EXCERPT_LEN - 1] + "…"


def fault_message(error: Exception) -> str:
    """The message for an error of this program itself: its type, and the line of code that raised it."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    message = (
        "internal error ({kind} in {file}, line {line}): please report it; "
        "QIANWEN_DEBUG=1 before the same command shows the details"
    )
    return tr(message, kind=type(error).__name__, file=os.path.basename(place.filename), line=place.lineno)
