"""A tool from a Python function with type hints.

>>> def area(width: float, height: float = 1.0) -> float:
...     '''The area of a rectangle.
...
...     Args:
...         width: in metres
...     '''
...     return width * height
>>> tool = function_tool(area, effect="none")

The schema of the parameters comes from the type hints: text, numbers, truth values, None, lists, dictionaries, Literal,
Enum, unions, dataclasses, TypedDict and Pydantic models. The docstring is the description; lines of its section
`Args:`, or `:param name:`, describe the parameters. A parameter of the type CallContext gets what is known about the
run and is not in the schema. What the function returns becomes text: a string as it is, anything else as JSON.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NoReturn, get_type_hints

import pydantic
import pydantic_core

from qianwen.agents.tool import CallContext, Effect, Observation, Tool
from qianwen.chat.messages import FunctionSpec
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}")  # of a tool; the names that OpenAI's API takes
_SECTION = re.compile(r"^(?:Args|Arguments|Parameters|参数)\s*[:：]\s*$", re.MULTILINE)
_NEXT_SECTION = re.compile(r"^(?:Returns?|Raises?|Yields?|Examples?|Notes?)\s*:", re.MULTILINE)
_ITEM = re.compile(r"^\s+\*{0,2}(\w+)\s*(?:\([^)\n]*\))?\s*[:：]\s*(.*)$")
_FIELD = re.compile(r"^\s*:param (?:[^:\n]* )?(\w+):\s*(.*)$", re.MULTILINE)
_OTHER_FIELD = re.compile(r"^\s*:\w+[^:\n]*:.*$", re.MULTILINE)


def function_tool(
    function: Callable[..., Any], *, effect: Effect = "changes", is_trusted: bool = False, name: str = ""
) -> Tool:
    """The tool that calls `function`; ConfigError if the function cannot be described."""
    name = name or getattr(function, "__name__", "")
    if not NAME.fullmatch(name):
        message = "{name} cannot be the name of a tool; pass name= with letters, digits and _ (at most 64)"
        raise ConfigError(tr(message, name=excerpt(name)))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        _refuse(name, tr("it is asynchronous; write a function that returns when it is done"))
    description, lines = _read_docstring(name, function)
    context_name, hints = _parameters(name, function, lines)
    model, schema = _schema(name, hints)
    fields = list(model.model_fields.items())

    def run(arguments: Mapping[str, Any], context: CallContext) -> Observation:
        try:
            read = model.model_validate(dict(arguments))
        except pydantic.ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(map(str, first["loc"])) or "-"
            raise ToolError(tr("argument {name} is wrong: {reason}", name=place, reason=first["msg"])) from None
        # A field that was left out is not passed, so that the function's own default counts.
        values = {info.alias or field: getattr(read, field) for field, info in fields if field in read.model_fields_set}
        if context_name:
            values[context_name] = context
        return as_observation(function(**values))

    return Tool(spec=FunctionSpec(name, description, schema), run=run, effect=effect, is_trusted=is_trusted)


def as_observation(value: Any) -> Observation:
    """What a function returned, as text for the model."""
    if isinstance(value, Observation):
        return value
    if isinstance(value, str):
        return Observation(value)
    return Observation(pydantic_core.to_json(value, inf_nan_mode="strings", fallback=str).decode())


def _refuse(name: str, reason: str) -> NoReturn:
    raise ConfigError(tr("the function {name} cannot be a tool: {reason}", name=name, reason=reason))


def _read_docstring(name: str, function: Callable[..., Any]) -> tuple[str, dict[str, str]]:
    """The description, and the line of each parameter that has one."""
    text = inspect.getdoc(function) or ""
    lines = {match[1]: match[2].strip() for match in _FIELD.finditer(text)}
    text = _OTHER_FIELD.sub("", text)
    if section := _SECTION.search(text):
        end = _NEXT_SECTION.search(text, section.end())
        lines |= _read_items(text[section.end() : end.start() if end else len(text)])
        text = text[: section.start()]
    elif end := _NEXT_SECTION.search(text):
        text = text[: end.start()]
    if not text.strip():
        _refuse(name, tr("it has no docstring, from which the model learns what it does"))
    return text.strip(), lines


def _read_items(section: str) -> dict[str, str]:
    """The items `name: text` of a section; lines that are further to the right continue an item."""
    items: dict[str, str] = {}
    margin, last = None, ""
    for line in section.splitlines():
        indent = len(line) - len(line.lstrip())
        margin = indent if margin is None and line.strip() else margin
        if line.strip() and not indent:
            break
        if (match := _ITEM.match(line)) and indent == margin:
            last = match[1]
            items[last] = match[2].strip()
        elif last and line.strip():
            items[last] += " " + line.strip()
    return items


def _parameters(name: str, function: Callable[..., Any], lines: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    """The name of the parameter that gets the context, and the type and field of each other parameter."""
    try:
        hints = get_type_hints(function, include_extras=True)
        parameters = inspect.signature(function).parameters.values()
    except (NameError, TypeError, ValueError) as error:
        _refuse(name, str(error))
    context_name, fields = "", {}
    for parameter in parameters:
        if parameter.kind not in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            _refuse(name, tr("parameter {parameter} cannot be passed by its name", parameter=parameter.name))
        if parameter.name not in hints:
            _refuse(name, tr("parameter {parameter} has no type hint", parameter=parameter.name))
        hint = hints[parameter.name]
        if hint is CallContext:
            context_name = parameter.name
            continue
        described: dict[str, Any] = {"alias": parameter.name, "description": lines.get(parameter.name)}
        if parameter.default is not parameter.empty:
            described |= {"default": None, "json_schema_extra": {"default": _json_default(name, parameter)}}
        fields[parameter.name] = (hint, pydantic.Field(**described))
    if unknown := sorted(set(lines) - set(fields) - {context_name}):
        _refuse(name, tr("its docstring describes {parameter}, which is not a parameter", parameter=unknown[0]))
    return context_name, fields


def _json_default(name: str, parameter: inspect.Parameter) -> Any:
    try:
        return json.loads(pydantic_core.to_json(parameter.default))
    except (pydantic_core.PydanticSerializationError, ValueError):
        value = excerpt(parameter.default)
        _refuse(name, tr("the default of {parameter} is not JSON: {value}", parameter=parameter.name, value=value))


def _schema(name: str, hints: Mapping[str, Any]) -> tuple[type[pydantic.BaseModel], dict[str, Any]]:
    """What checks and converts the arguments, and their JSON schema."""
    # Not under their own names: Pydantic refuses some, such as `schema` and those that start with an underscore.
    fields = {f"field_{number}": hint for number, hint in enumerate(hints.values())}
    try:
        model = pydantic.create_model("arguments", __config__=pydantic.ConfigDict(extra="forbid"), **fields)
        schema = model.model_json_schema()
    except (pydantic.errors.PydanticUserError, pydantic_core.SchemaError, TypeError) as error:
        _refuse(name, tr("JSON has no form for one of its types: {reason}", reason=str(error).splitlines()[0]))
    return model, {"type": "object", "properties": {}, **_plain(schema, schema.pop("$defs", {}), ())}


def _plain(schema: Any, definitions: Mapping[str, Any], open_names: tuple[str, ...]) -> Any:
    """A schema without titles, and with definitions in place of references, which small models do not follow."""
    if isinstance(schema, list):
        return [_plain(part, definitions, open_names) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if reference := schema.get("$ref"):
        target = reference.rpartition("/")[2]
        if target in open_names:  # a type that contains itself: any value of it is accepted here, and checked later
            return {"description": target}
        rest = {key: value for key, value in schema.items() if key != "$ref"}
        return _plain({**definitions[target], **rest}, definitions, (*open_names, target))
    plain = {}
    for key, value in schema.items():
        if key in ("properties", "patternProperties"):
            plain[key] = {field: _plain(part, definitions, open_names) for field, part in value.items()}
        elif key in ("enum", "const", "default", "required"):
            plain[key] = value
        elif key != "title":
            plain[key] = _plain(value, definitions, open_names)
    return plain
