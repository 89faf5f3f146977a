"""The arguments of a call: the text that a model wrote, read as an object despite the common mistakes.

Nothing in it is run: a dict of Python is read as a literal.
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

from qianwen.chat.messages import ToolCall
from qianwen.runtime.errors import ToolError
from qianwen.runtime.translation import tr

_MARKS = str.maketrans("：，｛｝［］“”＂", ':,{}[]"""')  # full width to half width


def parse_arguments(call: ToolCall) -> dict[str, Any]:
    """The arguments as a dict.

    Accepts common mistakes of models: fences, text around the object, JSON5, a dict of Python, full-width marks.
    """
    text = re.sub(r"\A\s*```\w*\n|\n?```\s*\Z", "", call.arguments).strip()
    readings = (_json, _json5, _python, lambda text: _json(_half_width(text)))
    value = next((value for read in readings if isinstance(value := read(text), dict)), None)
    if not isinstance(value, dict):
        raise ToolError(
            tr("The arguments of {name} must be a JSON object; got {value}", name=call.name, value=call.arguments[:200])
        )
    return value


def _json(text: str) -> object:
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, max(text.find("{"), 0))[0]
    except (ValueError, RecursionError):
        return None


def _json5(text: str) -> object:
    try:
        import json5

        return json5.loads(text)
    except (ImportError, ValueError):
        return None


def _python(text: str) -> object:
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _half_width(text: str) -> str:
    """JSON with its marks as JSON has them; the text in strings stays as it is."""
    return "".join(
        part if part.startswith('"') else part.translate(_MARKS) for part in re.split(r'("(?:[^"\\]|\\.)*")', text)
    )
