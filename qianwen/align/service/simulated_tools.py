"""Tools whose results are simulated: random values of the right form, fixed by a seed.

A result has values that nobody can guess, so a program can check that an answer uses them. Where a formula is known,
such as that of the body mass index, the value is computed.
"""

import json
import random
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from qianwen.chat.messages import FunctionSpec

FILE = Path(__file__).with_name("tools.toml")
LANGUAGES = ("en", "zh")
LOAN_RATE = 4.0  # percent a year, if the call gives none


@dataclass(frozen=True)
class Example:
    """Questions with slots, the thought before the call, and the answer with the arguments and results in it."""

    questions: tuple[str, ...]
    thought: str
    answer: str


@dataclass(frozen=True)
class SimulatedTool:
    """A function, and what its results look like.

    `returns`: name → a pair of numbers (a range), a list of texts (a choice), "=argument" (repeated), or a text in
    which each # is a random digit.
    """

    spec: FunctionSpec
    returns: Mapping[str, Any]

    def call(self, arguments: Mapping[str, Any], seed: str) -> dict[str, Any]:
        """The result of a call. The same tool, arguments and seed give the same result."""
        draw = random.Random(f"{seed}/{self.spec.name}/{json.dumps(arguments, sort_keys=True)}")
        result = {name: _value(kind, arguments, draw) for name, kind in self.returns.items()}
        computed = FORMULAS.get(self.spec.name)
        return result | (computed(arguments) if computed else {})


@dataclass(frozen=True)
class SeedTool(SimulatedTool):
    """A tool of `tools.toml` in one language, with its example and the pools of its slots."""

    example: Example
    pools: Mapping[str, Sequence[Any]]

    def draw(self, draw: random.Random) -> tuple[str, dict[str, Any]]:
        """A question and its arguments."""
        arguments = {name: draw.choice(self.pools[name]) for name in self.spec.parameters["required"]}
        return draw.choice(self.example.questions).format(**arguments), arguments


@cache
def seed_tools(language: str) -> tuple[SeedTool, ...]:
    """The tools of `tools.toml`, described in `language`."""
    content = tomllib.loads(FILE.read_text(encoding="utf-8"))
    return tuple(_seed_tool(name, tool, content["pools"], language) for name, tool in content["tools"].items())


def _seed_tool(name: str, tool: dict[str, Any], pools: dict[str, Any], language: str) -> SeedTool:
    properties = {key: _schema(value, language) for key, value in tool["parameters"].items()}
    required = [key for key, value in tool["parameters"].items() if not value.get("optional")]
    parameters = {"type": "object", "properties": properties, "required": required}
    choices = {key: value["enum"] for key, value in tool["parameters"].items() if "enum" in value}
    example = tool["examples"][language]
    return SeedTool(
        spec=FunctionSpec(name, tool[language], parameters),
        returns={key: kind[language] if isinstance(kind, dict) else kind for key, kind in tool["returns"].items()},
        example=Example(tuple(example["questions"]), example["thought"], example["answer"]),
        pools=pools[language] | tool.get("pools", {}).get(language, {}) | choices,
    )


def _schema(parameter: dict[str, Any], language: str) -> dict[str, Any]:
    kept = {key: value for key, value in parameter.items() if key not in (*LANGUAGES, "optional")}
    return kept | {"description": parameter[language]}


def _value(kind: Any, arguments: Mapping[str, Any], draw: random.Random) -> Any:
    if isinstance(kind, str):
        if kind.startswith("="):
            return arguments.get(kind[1:], "")
        return "".join(str(draw.randrange(10)) if character == "#" else character for character in kind)
    if all(isinstance(each, str) for each in kind):
        return draw.choice(kind)
    low, high = kind
    if isinstance(low, int) and isinstance(high, int):
        return draw.randint(low, high)
    return round(draw.uniform(low, high), 2)


def _body_mass_index(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"index": round(arguments["weight"] / (arguments["height"] / 100) ** 2, 1)}


def _running_calories(arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"calories": round(1.036 * arguments["distance"] * arguments["weight"])}


def _loan_payment(arguments: Mapping[str, Any]) -> dict[str, Any]:
    months, rate = 12 * arguments["years"], arguments.get("rate", LOAN_RATE) / 1200
    monthly = arguments["principal"] / months
    if rate > 0:
        monthly = arguments["principal"] * rate / (1 - (1 + rate) ** -months)
    return {"monthly": round(monthly, 2), "interest_total": round(monthly * months - arguments["principal"])}


FORMULAS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "body_mass_index": _body_mass_index,
    "running_calories": _running_calories,
    "loan_payment": _loan_payment,
}
