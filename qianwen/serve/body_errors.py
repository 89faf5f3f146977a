"""Errors of a request body, in the words of JSON: `messages[2].content[0].text must be a string; got 5`.

pydantic tries every member of a union and reports the errors of all. The caller meant one of them: the one that the
value fits longest. So the error deepest in the value is shown, and errors of plain type only if there is no other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from qianwen.runtime.errors import RequestError, excerpt
from qianwen.runtime.translation import tr

Path = tuple[str | int, ...]


def body_error(error: ValidationError, body: bytes) -> RequestError:
    """The `RequestError` for a body that pydantic refused, with the path of the field in `param`."""
    details = error.errors(include_url=False, include_input=False)
    if details[0]["type"] == "json_invalid":
        reason = details[0]["msg"].partition(": ")[2]
        return RequestError(tr("the request body is not valid JSON: {reason}", reason=reason[:200]))
    try:
        root: Any = json.loads(body)
    except (ValueError, RecursionError):  # Python's limits are lower than those of pydantic
        root = None
    located = [(_path(detail, root), detail) for detail in details]
    meant = [(path, detail) for path, detail in located if not _is_mismatch(detail, _value(root, path))] or located
    deepest, _ = max(meant, key=lambda each: _depth(each[0]))
    field = field_name(deepest)
    message = _message([detail for path, detail in meant if path == deepest], field, _value(root, deepest))
    return RequestError(message, param=field or None)


def field_name(path: Sequence[str | int]) -> str:
    """`("messages", 2, "content")` → `messages[2].content`."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def _path(detail: ErrorDetails, root: Any) -> Path:
    """Where the error is in the body. pydantic also names the members of unions, which are not in the body."""
    path: list[str | int] = []
    value: Any = root
    last = len(detail["loc"]) - 1
    for position, part in enumerate(detail["loc"]):
        if _has(value, part):
            path.append(part)
            value = value[part]
        elif detail["type"] == "missing" and position == last:
            path.append(part)
    return tuple(path)


def _depth(path: Path) -> tuple[int, int]:
    return len(path), path[-1] if path and isinstance(path[-1], int) else -1


def _value(value: Any, path: Path) -> Any:
    for part in path:
        if not _has(value, part):
            return None
        value = value[part]
    return value


def _has(value: Any, part: str | int) -> bool:
    if isinstance(value, dict):
        return part in value
    return isinstance(value, list) and isinstance(part, int) and part < len(value)


def _kinds() -> dict[str, str]:
    """What a field must be, by pydantic's type of the error."""
    return {
        "string_type": tr("a string"), "int_type": tr("an integer"), "int_from_float": tr("an integer"),
        "float_type": tr("a number"), "bool_type": tr("true or false"), "list_type": tr("an array"),
        "dict_type": tr("an object"), "model_type": tr("an object"), "model_attributes_type": tr("an object"),
        "none_required": tr("null"), "finite_number": tr("a finite number"),
    }  # fmt: skip


def _is_mismatch(detail: ErrorDetails, value: Any) -> bool:
    is_literal = detail["type"] == "literal_error" and not isinstance(value, str)
    return is_literal or (detail["type"] in _kinds() and detail["type"] != "finite_number")


def _literals(expected: str) -> str:
    """pydantic's list of allowed values, with the constants of JSON."""
    words = {"False": "false", "True": "true", "None": "null"}
    return re.sub(r"\b(False|True|None)\b", lambda match: words[match[1]], expected)


def _message(details: list[ErrorDetails], field: str, value: Any) -> str:
    field = field or tr("the request body")
    first, kinds = details[0], _kinds()
    expected = [
        kinds[detail["type"]] for detail in details if detail["type"] in kinds and detail["type"] != "none_required"
    ]
    expected += [_literals(detail["ctx"]["expected"]) for detail in details if detail["type"] == "literal_error"]
    if expected:
        kind = tr(" or ").join(dict.fromkeys(expected))
        return tr("{field} must be {kind}; got {value}", field=field, kind=kind, value=excerpt(value))
    if first["type"] == "union_tag_invalid":
        kind, tag = first["ctx"]["expected_tags"], first["ctx"]["tag"]
        return tr("{field} must be {kind}; got {value}", field=f"{field}.type", kind=kind, value=excerpt(tag))
    if first["type"] == "missing":
        return tr("{field} is missing", field=field)
    if limit := _limit(first):
        return tr("{field} must {limit}; got {value}", field=field, limit=limit, value=excerpt(value))
    return f"{field}: {first['msg'].removeprefix('Value error, ')}"


def _limit(detail: ErrorDetails) -> str:
    """The range, length or pattern that a value must have."""
    ctx = detail.get("ctx", {})
    if detail["type"] in ("too_long", "too_short"):
        least, most = ctx.get("min_length"), ctx.get("max_length")
        return (
            tr("have at most {count} item{count:plural}", count=most)
            if most
            else tr("have at least {count} item{count:plural}", count=least)
        )
    texts = {
        "greater_than_equal": tr("be at least {limit}", limit=_number(ctx.get("ge"))),
        "greater_than": tr("be above {limit}", limit=_number(ctx.get("gt"))),
        "less_than_equal": tr("be at most {limit}", limit=_number(ctx.get("le"))),
        "less_than": tr("be below {limit}", limit=_number(ctx.get("lt"))),
        "string_too_short": tr("have at least {count} character{count:plural}", count=ctx.get("min_length")),
        "string_too_long": tr("have at most {count} character{count:plural}", count=ctx.get("max_length")),
        "string_pattern_mismatch": tr("match the pattern {pattern}", pattern=ctx.get("pattern")),
    }
    return texts.get(detail["type"], "")


def _number(limit: Any) -> str:
    return f"{limit:g}" if isinstance(limit, float) else str(limit)
