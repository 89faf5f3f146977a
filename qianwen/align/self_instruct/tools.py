"""A model's reply → a tool with a simulator, or the reason why it is rejected."""

import itertools
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
        _check_parameters(value["parameters"], language)
        if not _is_good_text(value["description"], MAX_DESCRIPTION, language):
            raise Rejected("description cut short or in the wrong language")
        results = _usable_results(value, language)
        if not results:
            raise Rejected("no usable result")
        if self._descriptions.add(value["description"]):
            raise Rejected("near duplicate")
        value["name"] = self._new_name(value["name"])
        return GeneratedTool(_spec(value), results, language)

    def _new_name(self, name: str) -> str:
        """The name, with a number if another tool has it, such as one in the other language."""
        names = itertools.chain([name], (f"{name}_{number}" for number in itertools.count(2)))
        chosen = next(each for each in names if each not in self._names)
        self._names.add(chosen)
        return chosen


def _is_good_text(text: str, most: int, language: str) -> bool:
    """Not cut off by the constraint, and in the language; Chinese may name things in Latin letters."""
    return len(text) < most and is_in_language(text, language) and (language == "zh" or not HAN.search(text))


def _check_parameters(fields: list[dict[str, Any]], language: str) -> None:
    if len({field["name"] for field in fields}) < len(fields):
        raise Rejected("parameter twice")
    if not all(_is_good_text(field["description"], MAX_FIELD, language) for field in fields):
        raise Rejected("description cut short or in the wrong language")
    examples = [text for field in fields for text in field["examples"]]
    if any(PLACEHOLDER.search(text) or len(text) >= MAX_EXAMPLE for text in examples):
        raise Rejected("examples of a parameter say nothing")
    if any(_numbers(field["examples"]) is None for field in fields if field["type"] != "string"):
        raise Rejected("examples of a parameter have another type")


def _usable_results(value: dict[str, Any], language: str) -> dict[str, Any]:
    """What the simulator draws from. Fields that repeat a parameter or have no useful examples are left out."""
    known = {*_words(value["parameters"]), ""}
    found: dict[str, Any] = {}
    for field in value["results"]:
        about = _words([field]) or {""}  # a field that is only "name" is that of the parameter
        if not about & known and field["name"] not in found and (kind := _returned(field, language)):
            found[field["name"]] = kind
    return found


def _words(fields: list[dict[str, Any]]) -> set[str]:
    """The words of the fields' names that say what they are about."""
    return {word for field in fields for word in field["name"].split("_")} - GENERIC


def _returned(field: dict[str, Any], language: str) -> Any:
    """A range of numbers or the example texts; None if these are not useful."""
    examples = list(dict.fromkeys(text.strip() for text in field["examples"]))
    numbers = _numbers(examples)
    if numbers is None:
        is_good = all(_is_good_text(text, MAX_EXAMPLE, language) and not PLACEHOLDER.search(text) for text in examples)
        return examples if is_good and len(examples) >= 2 else None
    low, high = SPREAD[0] * min(numbers), SPREAD[1] * max(numbers)
    if not 0 <= low < high < 1e7:
        return None
    is_whole = all(number.is_integer() for number in numbers)
    return [round(low), round(high) + 1] if is_whole else [low, high]


def _numbers(texts: list[str]) -> list[float] | None:
    """The texts as numbers; None if one is not a number."""
    try:
        return [float(text.replace(",", "")) for text in texts]
    except ValueError:
        return None


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
