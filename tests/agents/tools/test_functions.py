"""Tools from typed Python functions: the schema, the call, and what cannot be a tool."""

import dataclasses
import datetime
import enum
from pathlib import Path
from typing import Any, Literal, Optional

import pytest
from typing_extensions import TypedDict

from qianwen.agents.tool import CallContext, Observation
from qianwen.agents.tools.functions import function_tool
from qianwen.chat.json_schema import satisfies
from qianwen.runtime.errors import ConfigError, ToolError

CONTEXT = CallContext("key", Path("."), 1.0)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


@dataclasses.dataclass
class Place:
    name: str
    height: float = 0.0


class Row(TypedDict):
    title: str
    count: int


@dataclasses.dataclass
class Tree:
    value: int
    parts: "list[Tree]" = dataclasses.field(default_factory=list)


def everything(  # noqa: PLR0913
    count: int,
    ratio: float,
    colour: Colour,
    unit: Literal["km", "mile"],
    names: list[str],
    scores: dict[str, float],
    place: Place,
    row: Row,
    when: datetime.date,
    note: Optional[str] = None,  # noqa: UP045
    schema: bool = True,
    *,
    limit: int | None = 5,
) -> dict[str, Any]:
    """Return everything.

    In two paragraphs.

    Args:
        count: how many
            there are
        unit (str): of length
    Returns:
        what it got
    """
    return {**locals(), "year": when.year, "place": place.name}


GOOD = {
    "count": 3,
    "ratio": 0.5,
    "colour": "red",
    "unit": "km",
    "names": ["a", "乙"],
    "scores": {"x": 1},
    "place": {"name": "Xi'an"},
    "row": {"title": "t", "count": 1},
    "when": "2024-02-29",
}
BAD = [
    {"count": "three"},
    {"count": 1.5},
    {"ratio": None},
    {"colour": "green"},
    {"unit": "m"},
    {"names": "a"},
    {"names": [1]},
    {"scores": {"x": "y"}},
    {"place": {}},
    {"place": {"name": "x", "depth": 1}},
    {"row": {"title": "t"}},
    {"note": 5},
    {"schema": None},
    {"unknown": 1},
]


def test_the_schema_says_what_the_type_hints_say():
    spec = function_tool(everything).spec
    assert spec.name == "everything"
    assert spec.description == "Return everything.\n\nIn two paragraphs."
    properties = spec.parameters["properties"]
    assert list(properties) == [*GOOD, "note", "schema", "limit"]
    assert spec.parameters["required"] == list(GOOD)
    assert properties["count"] == {"type": "integer", "description": "how many there are"}
    assert properties["unit"] == {"type": "string", "enum": ["km", "mile"], "description": "of length"}
    assert properties["colour"]["enum"] == ["red", "blue"]
    assert properties["place"]["properties"]["height"] == {"type": "number", "default": 0.0}
    assert properties["row"]["properties"]["title"] == {"type": "string"}
    assert properties["schema"] == {"type": "boolean", "default": True}
    assert properties["limit"]["default"] == 5
    assert "$ref" not in str(spec.parameters)
    assert satisfies(GOOD, spec.parameters)


@pytest.mark.parametrize("change", BAD)
def test_arguments_that_the_schema_refuses_never_reach_the_function(change: dict[str, Any]):
    tool = function_tool(everything)
    assert not satisfies({**GOOD, **change}, tool.spec.parameters)
    with pytest.raises(ToolError, match=next(iter(change))):
        tool.run({**GOOD, **change}, CONTEXT)


def test_the_function_gets_values_of_its_types_and_its_own_defaults():
    result = function_tool(everything).run(GOOD, CONTEXT)
    assert '"year":2024' in result.text
    assert '"place":"Xi\'an"' in result.text
    assert '"note":null' in result.text and '"schema":true' in result.text and '"limit":5' in result.text
    assert "乙" in result.text


def test_defaults_that_change_are_the_functions():
    calls: list[list[int]] = []

    def add(value: int, to: list[int] = calls) -> int:
        """Add."""
        to.append(value)
        return len(to)

    tool = function_tool(add)
    assert [tool.run({"value": 1}, CONTEXT).text, tool.run({"value": 2}, CONTEXT).text] == ["1", "2"]
    assert calls == [1, 2]


def test_the_context_is_handed_in_and_is_not_a_parameter():
    def key(prefix: str, context: CallContext) -> str:
        """The key of the call.

        :param prefix: before it
        :returns: both
        """
        return prefix + context.key

    tool = function_tool(key, effect="none", is_trusted=True, name="call-key")
    assert (tool.name, tool.effect, tool.is_trusted) == ("call-key", "none", True)
    assert tool.spec.parameters["properties"] == {"prefix": {"type": "string", "description": "before it"}}
    assert tool.spec.description == "The key of the call."
    assert tool.run({"prefix": "a "}, CONTEXT).text == "a key"


def test_a_tool_changes_something_unless_its_author_says_that_it_is_less():
    tool = function_tool(everything)
    assert tool.effect == "changes"
    assert not tool.is_trusted


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is", "as it is"),
        (None, "null"),
        ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
        (Place("Xi'an"), '{"name":"Xi\'an","height":0.0}'),
        (float("nan"), '"NaN"'),
        ({1}, "[1]"),
        (Path("a/b"), '"a/b"'),
        (1 + 2j, '"1+2j"'),
    ],
)
def test_what_a_function_returns_becomes_text(value: object, text: str):
    def give() -> object:
        """Give."""
        return value

    assert function_tool(give).run({}, CONTEXT).text == text


def test_an_observation_with_files_is_passed_on():
    observation = Observation("drawn", files=(Path("plot.png"),))

    def draw() -> Observation:
        """Draw."""
        return observation

    assert function_tool(draw).run({}, CONTEXT) is observation


def test_errors_of_the_function_are_its_own():
    def fail(how: Literal["tool", "bug"]) -> None:
        """Fail."""
        raise ToolError("try another city") if how == "tool" else ZeroDivisionError("a fault")

    tool = function_tool(fail)
    with pytest.raises(ToolError, match="another city"):
        tool.run({"how": "tool"}, CONTEXT)
    with pytest.raises(ZeroDivisionError):
        tool.run({"how": "bug"}, CONTEXT)


def test_a_type_that_contains_itself_is_described_once_and_checked_fully():
    def total(tree: Tree) -> int:
        """The sum."""
        return tree.value + sum(total(part) for part in tree.parts)

    tool = function_tool(total)
    assert "$ref" not in str(tool.spec.parameters)
    assert tool.run({"tree": {"value": 1, "parts": [{"value": 2, "parts": [{"value": 3}]}]}}, CONTEXT).text == "6"
    with pytest.raises(ToolError, match="parts"):
        tool.run({"tree": {"value": 1, "parts": [{"value": "x"}]}}, CONTEXT)


def without_docstring(x: int) -> int:
    return x


def without_hint(x) -> int:  # noqa: ANN001
    """Has none."""
    return x


def any_number(*x: int) -> int:
    """Has none."""
    return sum(x)


def by_place(x: int, /) -> int:
    """Has none."""
    return x


def strange_type(x: "threading_lock") -> int:  # noqa: F821
    """Has none."""
    return 1


def no_json(x: type(iter(()))) -> int:
    """Has none."""
    return 1


def odd_default(x: Any = lambda: 1) -> int:
    """Has none."""
    return 1


def wrong_docstring(x: int) -> int:
    """Say.

    Args:
        y: not there
    """
    return x


async def later(x: int) -> int:
    """Wait."""
    return x


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (without_docstring, "docstring"),
        (without_hint, "x has no type hint"),
        (any_number, "by its name"),
        (by_place, "by its name"),
        (strange_type, "threading_lock"),
        (no_json, "JSON has no form"),
        (odd_default, "default of x is not JSON"),
        (wrong_docstring, "describes y"),
        (later, "asynchronous"),
        (lambda: 1, "name"),
        (len, "tool"),
        (5, "name"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_with_the_reason(function: Any, reason: str):
    with pytest.raises(ConfigError, match=reason):
        function_tool(function)


@pytest.mark.parametrize("name", ["", "two words", "x" * 65, "名", "1st"])
def test_a_name_that_models_cannot_write_is_refused(name: str):
    with pytest.raises(ConfigError, match="name"):
        function_tool(lambda: 1, name=name)
