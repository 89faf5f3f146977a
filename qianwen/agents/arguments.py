"""The arguments of a call: from the text that a model wrote to values that satisfy the tool's schema.

The text is JSON, or JSON with the mistakes that models make (JSON5, a fence, text around the object), or code for a
tool whose one argument is code. `violation` names the first field that is wrong, so that the model can repair it.

The messages of this file are for the model. They are in English, whatever the user's language is, so that a run does
not depend on it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Any

from qianwen.chat.call_arguments import parse_arguments
from qianwen.chat.code_blocks import code_blocks
from qianwen.chat.json_schema import referenced, satisfies
from qianwen.chat.messages import FunctionSpec, ToolCall, arguments_text
from qianwen.runtime.errors import QianwenError, ToolError, excerpt

DEFINITIONS = ("$defs", "definitions", "components")  # parts of a schema that `$ref` may name


def read_arguments(call: ToolCall, spec: FunctionSpec) -> dict[str, Any]:
    """The arguments as a dict that satisfies the schema. Raises ToolError with a message for the model."""
    schema = json_schema(spec.parameters)
    call = ToolCall(call.name, arguments_text(call.arguments))
    code_name = _code_name(spec, schema)
    try:
        arguments = parse_arguments(call)
    except QianwenError as error:
        if code_name is None:
            raise ToolError(f"The arguments are not a JSON object. You wrote: {excerpt(call.arguments)}") from error
        arguments = None
    if code_name is not None and (arguments is None or not satisfies(arguments, schema)):
        arguments = {code_name: _code(call.arguments)}
    assert arguments is not None
    try:
        problem = violation(arguments, schema)
    except RecursionError:  # a schema that refers to itself without an end
        problem = "they do not satisfy the schema."
    if problem:
        raise ToolError(f"The arguments are wrong: {problem}")
    return arguments


def json_schema(parameters: Any) -> Mapping[str, Any]:
    """The schema of a tool's arguments; Qwen v1's list of named parameters becomes one."""
    if isinstance(parameters, Mapping):
        return parameters
    fields = [each for each in parameters or () if isinstance(each, Mapping) and "name" in each]
    properties = {each["name"]: each.get("schema") or {"type": each.get("type", "string")} for each in fields}
    required = [each["name"] for each in fields if each.get("required")]
    return {"type": "object", "properties": properties, "required": required}


def _code_name(spec: FunctionSpec, schema: Mapping[str, Any]) -> str | None:
    """The name of the one argument of a tool that takes code."""
    properties = schema.get("properties") or {}
    names = list(schema.get("required") or properties)
    return names[0] if spec.args_format == "code" and len(names) == 1 else None


def _code(text: str) -> str:
    blocks = code_blocks(text)
    return blocks[0].strip("\n") if blocks else text.strip().strip("`").strip()


def violation(value: Any, schema: Any, path: str = "") -> str:
    """What is wrong with a value, with the name of its field; empty if it satisfies the schema."""
    if satisfies(value, schema):
        return ""
    definitions = {name: schema[name] for name in DEFINITIONS if name in schema}
    if isinstance(reference := schema.get("$ref"), str):
        return violation(value, _part(referenced(reference, schema), definitions), path)
    problem = ""
    if isinstance(value, dict):
        problem = _wrong_field(value, schema, definitions, path)
    elif isinstance(value, list):
        items = _part(schema.get("items", True), definitions)
        problem = next(filter(None, (violation(item, items, f"{path}[{i}]") for i, item in enumerate(value))), "")
    name = f"`{path}`" if path else "the arguments"
    return problem or f"{name} must be {expected(schema)}; got {excerpt(value)}."


def _wrong_field(value: Mapping[str, Any], schema: Mapping[str, Any], definitions: Mapping[str, Any], path: str) -> str:
    """The first field of an object that is missing, wrong or unknown."""
    properties = schema.get("properties") or {}
    if missing := [each for each in schema.get("required") or () if each not in value]:
        return f"`{_join(path, missing[0])}` is missing{_written_as(missing[0], value, properties)}."
    for key, item in value.items():
        if key in properties and (problem := violation(item, _part(properties[key], definitions), _join(path, key))):
            return problem
        if key not in properties and schema.get("additionalProperties") is False:
            return f"there is no `{_join(path, key)}`; the fields are {', '.join(properties) or 'none'}."
    return ""


def _part(schema: Any, definitions: Mapping[str, Any]) -> Any:
    """A part of a schema that can be used alone."""
    return {**definitions, **schema} if isinstance(schema, Mapping) else {} if schema is not False else {"not": {}}


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _written_as(name: str, value: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    """A field that does not exist is often the missing one under another name."""
    unknown = [key for key in value if key not in properties]
    near = difflib.get_close_matches(name, unknown, 1, 0.5) or (unknown if len(unknown) == 1 else [])
    return f" (you wrote `{near[0]}`)" if near else ""


def expected(schema: Mapping[str, Any]) -> str:
    """What a schema asks for, in a few words."""
    if isinstance(schema.get("enum"), list):
        return "one of " + ", ".join(json.dumps(each, ensure_ascii=False) for each in schema["enum"])
    types = schema.get("type", "as its schema says")
    text = " or ".join(types) if isinstance(types, list) else str(types)
    limits = {name: schema[name] for name in _LIMITS if name in schema}
    return text + (f" with {json.dumps(limits, ensure_ascii=False)}" if limits else "")


_LIMITS = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf", "pattern", "const"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)
