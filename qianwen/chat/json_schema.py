"""Whether a JSON value satisfies a schema: the part of JSON Schema that descriptions of functions use.

Checked are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `items`, `prefixItems`, the
limits of numbers, texts and lists, `pattern`, `anyOf`, `oneOf`, `allOf`, `not`, `$ref` inside the schema, and the
`nullable` of OpenAPI. Other words of a schema, such as `format`, and types that JSON does not have, such as `any`,
exclude nothing.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, (int, float)) and not isinstance(value, bool),
    "integer": lambda value: _is_whole(value),
}
MAX_DEPTH = 64


def _is_whole(value: Any) -> bool:
    """Whether a number is an integer; 1.0 is one, true is not."""
    return value.is_integer() if isinstance(value, float) else isinstance(value, int) and not isinstance(value, bool)


def satisfies(value: Any, schema: Any) -> bool:
    """Whether `value` is allowed by `schema`. A schema that is neither an object nor a boolean allows everything."""
    return _satisfies(value, schema, schema, 0)


def _satisfies(value: Any, schema: Any, root: Any, depth: int) -> bool:
    if not isinstance(schema, Mapping):
        return schema is not False
    if depth > MAX_DEPTH:
        return False

    def allows(item: Any, part: Any) -> bool:
        return _satisfies(item, part, root, depth + 1)

    if isinstance(reference := schema.get("$ref"), str) and not allows(value, referenced(reference, root)):
        return False
    return (
        _has_type(value, schema)
        and _is_within(value, schema)
        and _combines(value, schema, allows)
        and (not isinstance(value, dict) or _object(value, schema, allows))
        and (not isinstance(value, list) or _array(value, schema, allows))
    )


def referenced(reference: str, root: Any) -> Any:
    """The part of the schema at a path such as `#/$defs/city`; False, which allows nothing, if there is none."""
    part = root
    for name in unquote(reference.removeprefix("#")).split("/")[1:]:
        name = name.replace("~1", "/").replace("~0", "~")
        if isinstance(part, list):
            part = dict(enumerate(part)).get(int(name), False) if name.isdecimal() else False
        else:
            part = part.get(name, False) if isinstance(part, Mapping) else False
    return part if reference.startswith("#") else False


def _has_type(value: Any, schema: Mapping[str, Any]) -> bool:
    types = schema.get("type")
    names = types if isinstance(types, list) else [] if types is None else [types]
    names = [*names, "null"] if names and schema.get("nullable") is True else names
    if names and not any(TYPES.get(name, _anything)(value) for name in names if isinstance(name, str)):
        return False
    if isinstance(schema.get("enum"), list) and not any(_is_equal(value, choice) for choice in schema["enum"]):
        return False
    return "const" not in schema or _is_equal(value, schema["const"])


def _anything(_: Any) -> bool:
    return True


def _is_equal(value: Any, other: Any) -> bool:
    """Equality of JSON: true is not 1, but 1.0 is."""
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_is_equal, value, other))
    if isinstance(value, dict) and isinstance(other, dict):
        return value.keys() == other.keys() and all(_is_equal(value[name], other[name]) for name in value)
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def _is_within(value: Any, schema: Mapping[str, Any]) -> bool:
    """The limits of a number, of the length of a text, and of the number of entries."""
    if TYPES["number"](value):
        limits = {"minimum": operator.ge, "maximum": operator.le}
        limits |= {"exclusiveMinimum": operator.gt, "exclusiveMaximum": operator.lt}
        size: Any = value
        step = schema.get("multipleOf")
        if isinstance(value, int) and isinstance(step, int) and step > 0 and value % step:
            return False
    else:
        name = {str: "Length", list: "Items", dict: "Properties"}.get(type(value))
        size = len(value) if name else 0
        limits = {f"min{name}": operator.ge, f"max{name}": operator.le} if name else {}
    if isinstance(value, str) and isinstance(pattern := schema.get("pattern"), str) and not _matches(pattern, value):
        return False
    return all(holds(size, schema[name]) for name, holds in limits.items() if TYPES["number"](schema.get(name)))


def _matches(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value[:10_000]) is not None
    except re.error:
        return True


def _combines(value: Any, schema: Mapping[str, Any], allows: Callable[[Any, Any], bool]) -> bool:
    counts = {}
    for word in ("anyOf", "oneOf", "allOf"):
        if isinstance(parts := schema.get(word), list):
            counts[word] = (sum(allows(value, part) for part in parts), len(parts))
    return (
        counts.get("anyOf", (1, 1))[0] >= 1
        and counts.get("oneOf", (1, 1))[0] == 1
        and counts.get("allOf", (1, 1))[0] == counts.get("allOf", (1, 1))[1]
        and ("not" not in schema or not allows(value, schema["not"]))
    )


def _object(value: dict[str, Any], schema: Mapping[str, Any], allows: Callable[[Any, Any], bool]) -> bool:
    properties = schema.get("properties")
    properties = properties if isinstance(properties, Mapping) else {}
    required = schema.get("required")
    if isinstance(required, list) and not all(name in value for name in required):
        return False
    patterns = schema.get("patternProperties")
    patterns = patterns if isinstance(patterns, Mapping) else {}
    others = schema.get("additionalProperties", True)
    for name, item in value.items():
        parts = [part for pattern, part in patterns.items() if _matches(pattern, name)]
        parts += [properties[name]] if name in properties else []
        if not all(allows(item, part) for part in parts or [others]):
            return False
    return True


def _array(value: list[Any], schema: Mapping[str, Any], allows: Callable[[Any, Any], bool]) -> bool:
    first = schema.get("prefixItems")
    first = first if isinstance(first, list) else []
    rest = schema.get("items", True)
    return all(allows(item, part) for item, part in zip(value, first, strict=False)) and all(
        allows(item, rest) for item in value[len(first) :]
    )
