"""Calls as Qwen3-Coder and later models write them between their tags: a function and its parameters, all as text.

    <function=weather>
    <parameter=city>
    Paris
    </parameter>
    <parameter=days>
    3
    </parameter>
    </function>

A value is text with one line break at each end, so its type is in the schema of the function only: text that the schema
allows stays text, else it is read as JSON (`3`, `[1, 2]`, `{"a": 1}`) or as Python writes it (`True`, `None`), because
the templates of these models write Python's forms. A value that fits neither stays text, and so do the values of an
unknown function.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from qianwen.chat.exact_json import read_json, write_json
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import ToolCall

START = "<function="
CALL = re.compile(r"\s*<function=([^>\n]+)>\s*((?:<parameter=[^>\n]+>.*?</parameter>\s*)*)</function>\s*", re.DOTALL)
PARAMETER = re.compile(r"<parameter=([^>\n]+)>\n?(.*?)\n?</parameter>", re.DOTALL)
PYTHON = {"True": "true", "False": "false", "None": "null"}
MAX_LITERAL = 10_000  # characters of a value that is read as Python's


def is_xml_call(body: str) -> bool:
    """Whether the text between the tags begins as a call in this form."""
    return body.lstrip().startswith(START)


def read_xml_call(body: str, schemas: Mapping[str, Any]) -> ToolCall | None:
    """The call, its values typed by the schemas of the functions; None if the form is broken."""
    match = CALL.fullmatch(body)
    if match is None:
        return None
    name = match[1].strip()
    schema = schemas.get(name)
    members = {
        parameter[1].strip(): _value(parameter[2], _schema_of(parameter[1].strip(), schema))
        for parameter in PARAMETER.finditer(match[2])
    }
    return ToolCall(name, write_json(members))


def _schema_of(name: str, schema: Any) -> Any:
    """The schema of one parameter, with the definitions that it may refer to; True if there is none."""
    if not isinstance(schema, Mapping):
        return True
    properties = schema.get("properties")
    known = properties.get(name) if isinstance(properties, Mapping) else None
    part = known if isinstance(known, Mapping) else schema.get("additionalProperties")
    shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
    return {**shared, **part} if isinstance(part, Mapping) else True


def _value(text: str, schema: Any) -> Any:
    """The value that a text stands for, its numbers as they are written."""
    if text in ("null", "None") and satisfies(None, schema) and not satisfies(0, schema):  # a text or nothing
        return None
    if satisfies(text, schema):
        return text
    forms = list(_forms(text))
    type_only = {"type": schema["type"]} if "type" in schema else False  # a number out of range is still a number
    fitting = (exact for allowed in (schema, type_only) for value, exact in forms if satisfies(value, allowed))
    return next(fitting, text)


def _forms(text: str) -> Iterator[tuple[Any, Any]]:
    """The text as JSON, or else as Python's: the value, and the value with its numbers as they are written."""
    text = PYTHON.get(text.strip(), text)
    try:
        yield json.loads(text), read_json(text)
        return
    except (ValueError, RecursionError):
        pass
    if len(text) <= MAX_LITERAL and text.strip()[:1] in ("{", "[", "("):
        try:
            form = json.dumps(ast.literal_eval(text.strip()), ensure_ascii=False, allow_nan=False)
            yield json.loads(form), read_json(form)
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
            return
