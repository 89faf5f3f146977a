"""What the model is asked in each stage, in English and Chinese, and the JSON schema of each reply."""

import json
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from qianwen.chat.messages import FunctionSpec

FILE = Path(__file__).with_name("prompts.toml")
NO_TOOL = "none"
NUM_QUESTIONS = 4  # of one reply
NAME = "^[a-z][a-z0-9]*(_[a-z0-9]+){0,4}$"
MAX_DESCRIPTION, MAX_FIELD, MAX_EXAMPLE = 140, 90, 40  # characters
EXAMPLE = rf"^[^\[\]{{}}<>\"“”\\]{{1,{MAX_EXAMPLE}}}$"


@cache
def texts(language: str) -> dict[str, Any]:
    """`areas`, `people` and `prompts` in `language`."""
    return tomllib.loads(FILE.read_text(encoding="utf-8"))[language]


def _text(most: int) -> dict[str, Any]:
    return {"type": "string", "minLength": 1, "maxLength": most}


def _fields(kinds: Sequence[str], most: int) -> dict[str, Any]:
    examples = {"type": "array", "items": {"type": "string", "pattern": EXAMPLE}, "minItems": 3, "maxItems": 3}
    field = {
        "name": {"type": "string", "pattern": NAME},
        "type": {"enum": list(kinds)},
        "description": _text(MAX_FIELD),
        "examples": examples,
    }
    item = _object(field)
    return {"type": "array", "items": item, "minItems": 1, "maxItems": most}


def _object(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


TOOL_SCHEMA = _object(
    {
        "name": {"type": "string", "pattern": NAME},
        "description": _text(MAX_DESCRIPTION),
        "parameters": _fields(("string", "integer", "number"), 2),
        "results": _fields(("string", "integer", "number"), 3),
    }
)


def _questions(item: dict[str, Any]) -> dict[str, Any]:
    return _object({"messages": {"type": "array", "items": item, "minItems": NUM_QUESTIONS, "maxItems": NUM_QUESTIONS}})


PLAIN_SCHEMA = _questions(_text(140))


def questions_schema(tool: FunctionSpec) -> dict[str, Any]:
    """Four messages, each after the arguments that it states."""
    return _questions(_object({"arguments": tool.parameters, "message": _text(140)}))


def call_schema(tools: Sequence[FunctionSpec]) -> dict[str, Any]:
    """A thought with a call of one of the tools, whose arguments satisfy its schema, or with no call."""
    calls = [
        _object({"thought": _text(220), "name": {"const": tool.name}, "arguments": tool.parameters}) for tool in tools
    ]
    return {"anyOf": [*calls, _object({"thought": _text(220), "name": {"const": NO_TOOL}, "arguments": _object({})})]}


def tool_line(tool: FunctionSpec) -> str:
    """A tool as one line of JSON, as prompts show it."""
    return json.dumps(
        {"name": tool.name, "description": tool.description, "parameters": tool.parameters["properties"]},
        ensure_ascii=False,
    )
