"""A model's reply → a tool with a simulator, or the reason why it is rejected."""

import json
import re
from dataclasses import dataclass
from typing import Any

from qianwen.align.languages import HAN, is_in_language
from qianwen.align.near_duplicates import NearDuplicates
from qianwen.align.self_instruct.prompts import (
    MAX_DESCRIPTION,
    MAX_EXAMPLE,
    MAX_FIELD,
    NAME,
    NO_TOOL,
    TOOL_SCHEMA,
)
from qianwen.align.service.simulated_tools import SimulatedTool, seed_tools
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec

SPREAD = (0.5, 1.7)  # results are drawn from this part of the smallest to this multiple of the largest example
LIKENESS = 0.6  # of two descriptions that are near duplicates
GENERIC = {"name", "date", "time", "id", "number", "type", "status", "code", "of", "in", "the"}  # words of field names
PLACEHOLDER = re.compile(r"example|string|value|placeholder|lorem|示例|例子|xxx|abc\d*$|^\W*$", re.IGNORECASE)


class Rejected(Exception):
    """A reply that is not used; the message is the reason."""


@dataclass(frozen=True)
class GeneratedTool(SimulatedTool):
    """A tool that a model wrote."""

    language: str


class ToolReader:
    """Reads tools one after another; each must differ from the seeds and from all before."""

    def __init__(self) -> None:
        self._names = {tool.spec.name for tool in seed_tools("en")} | {NO_TOOL}
        self._descriptions = NearDuplicates(LIKENESS)
        for language in ("en", "zh"):
            for tool in seed_tools(language):
                self._descriptions.add(tool.spec.description)

    def read(self, reply: str, language: str) -> GeneratedTool:
        """The tool of a reply. Raises Rejected."""
        value = read_json(reply, TOOL_SCHEMA)
        if not re.fullmatch(NAME, value["name"]) or not 5 <= len(value["name"]) <= 40:
            raise Rejected("bad name")
        if value["name"] in self._names:
            raise Rejected("name taken")
        fields = [*value["parameters"], *value["results"]]
        if len({field["name"] for field in fields}) < len(fields):
            raise Rejected("field twice")
        _check_texts(value, language)
        if _name_words(value["parameters"]) & _name_words(value["results"]):
            raise Rejected("result repeats a parameter")
        tool = GeneratedTool(_spec(value), {field["name"]: _returned(field) for field in value["results"]}, language)
        if self._descriptions.add(value["description"]):
            raise Rejected("near duplicate")
        self._names.add(value["name"])
        return tool


def _check_texts(value: dict[str, Any], language: str) -> None:
    """Raises Rejected for descriptions in another language, and for texts that a constraint cut off."""
    fields = [*value["parameters"], *value["results"]]
    texts = [value["description"], *(field["description"] for field in fields)]
    if not all(is_in_language(text, language) and (language == "zh" or not HAN.search(text)) for text in texts):
        raise Rejected("wrong language")
    examples = [text for field in fields for text in field["examples"]]
    lengths = [(MAX_DESCRIPTION, texts[:1]), (MAX_FIELD, texts[1:]), (MAX_EXAMPLE, examples)]
    if any(PLACEHOLDER.search(text) for text in examples):
        raise Rejected("examples say nothing")
    if any(len(text) >= most for most, each in lengths for text in each):
        raise Rejected("cut short")


def _name_words(fields: list[dict[str, Any]]) -> set[str]:
    """The words of the fields' names that say what they are about."""
    return {word for field in fields for word in field["name"].split("_")} - GENERIC


def read_json(reply: str, schema: dict[str, Any]) -> Any:
    """The JSON of a reply, which must satisfy `schema`. Raises Rejected."""
    try:
        value = json.loads(reply)
    except (ValueError, RecursionError):
        raise Rejected("invalid JSON") from None
    if not satisfies(value, schema):
        raise Rejected("invalid JSON")
    return value


def _spec(value: dict[str, Any]) -> FunctionSpec:
    properties = {
        field["name"]: {"type": field["type"], "description": field["description"]} for field in value["parameters"]
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return FunctionSpec(value["name"], value["description"], parameters)


def _returned(field: dict[str, Any]) -> Any:
    """What the simulator draws from: a range of numbers, or the example texts. Raises Rejected."""
    examples = list(dict.fromkeys(text.strip() for text in field["examples"]))
    if field["type"] == "string":
        if len(examples) < 2:
            raise Rejected("examples say nothing")
        return examples
    try:
        numbers = [float(text.replace(",", "")) for text in examples]
    except ValueError:
        raise Rejected("examples of another type") from None
    low, high = SPREAD[0] * min(numbers), SPREAD[1] * max(numbers)
    if not 0 <= low < high < 1e7:
        raise Rejected("examples say nothing")
    return [round(low), round(high) + 1] if field["type"] == "integer" else [float(low), float(high)]
