"""JSON whose numbers stay as they are written.

Python reads `1e400` as infinity and writes it as `Infinity`, which is not JSON; it rounds `0.1000000000000000055` and
refuses integers of more than 4,300 digits. Arguments of function calls pass through here, and must not change.
"""

import json
from typing import Any, NoReturn


class Number(str):
    """A number, as it is written."""


def read_json(text: str) -> Any:
    """The value of a JSON text, its numbers as `Number`. Raises ValueError. Texts may have control characters."""
    return json.loads(text, strict=False, parse_float=Number, parse_int=Number, parse_constant=_refuse)


def write_json(value: Any) -> str:
    """The text of a value of `read_json`, in the form of `json.dumps` with readable characters."""
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        members = (f"{json.dumps(key, ensure_ascii=False)}: {write_json(member)}" for key, member in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(write_json, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
