"""AGENT.json: what it says is what runs, and what cannot be right is an error that names it."""

import json

import pytest

from qianwen.agents.budget import Budget
from qianwen.agents.config import INSTRUCTIONS, AgentConfig, make_tools, read_config
from qianwen.agents.tool import CallContext
from qianwen.runtime.errors import ConfigError

from .conftest import tool

FUNCTIONS = """
def double(x: int) -> int:
    'Double a number.'
    return 2 * x

READY = None
"""


@pytest.fixture
def read(tmp_path):
    def write(**fields):
        path = tmp_path / "agent.json"
        path.write_text(json.dumps(fields))
        return read_config(path)

    return write


def echo(*, times: int = 1, folder: object = None):
    made = tool("echo")
    made.spec.__dict__["description"] = f"{times} {folder}"
    return (made, tool("echo2"))


FACTORIES = {
    "echo": echo,
    "single": lambda: tool("single"),
    "openapi": lambda document, *, server="": tool(f"api-{server}"),
}


def test_a_file_is_read(read, tmp_path):
    config = read(
        name="a", instructions="Be brief.", model="qwen", tools=["echo"], permissions={"echo": "ask"},
        budget={"calls": 3, "seconds": 60}, sampling={"temperature": 0}, style="react",
    )  # fmt: skip
    assert config.budget == Budget(calls=3, seconds=60) and config.policy.permissions == {"echo": "ask"}
    assert (config.name, config.model, config.style, config.folder) == ("a", "qwen", "react", tmp_path)
    assert read().instructions == INSTRUCTIONS and read(instructions="").instructions == ""


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"tool": []}, "no field `tool`: did you mean tools?"),
        ({"budget": {"call": 3}}, "budget has no field `call`: did you mean calls?"),
        ({"budget": {"calls": "3"}}, "the budget's calls must be a number"),
        ({"tools": "echo"}, "`tools` must be a list"),
        ({"permissions": []}, "`permissions` must be an object"),
        ({"name": 3}, "`name` must be text; got 3"),
        ({"folder": "x"}, "no field `folder`"),
    ],
)
def test_a_field_that_is_wrong_is_named(read, fields, message):
    with pytest.raises(ConfigError, match=message):
        read(**fields)


@pytest.mark.parametrize("content", ["{", "[1]", "\ud800"])
def test_a_file_that_is_no_object_is_refused(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ConfigError, match="a.json"):
        read_config(tmp_path / "a.json")
    with pytest.raises(ConfigError, match="missing.json"):
        read_config(tmp_path / "missing.json")


def test_a_permission_that_is_none_is_refused(read):
    with pytest.raises(ConfigError, match="must be ask, allow or deny"):
        read(permissions={"changes": "never"}).policy  # noqa: B018


def made(tmp_path, *entries):
    return make_tools(AgentConfig(tools=entries, folder=tmp_path), FACTORIES)


def test_tools_are_made_by_name_with_their_options(tmp_path):
    tools = made(
        tmp_path, {"name": "echo", "times": 2, "folder": "files"}, "single", {"openapi": "shop.json", "server": "x"}
    )
    assert [each.name for each in tools] == ["echo", "echo2", "single", "api-x"]
    assert tools[0].spec.description == f"2 {tmp_path / 'files'}"


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("ecko", 'no tool "ecko": did you mean echo?'),
        ({"name": "echo", "time": 2}, "tool echo has no field `time`: did you mean times?"),
        ({"times": 2}, "no tool null"),
        ({"name": "openapi"}, "the tool openapi needs the option document"),
        (3, "an entry of tools"),
        ("nothing_here:f", "cannot load the tool"),
        ("json:nothing", "cannot load the tool"),
        ("json:__name__", "is not a function"),
    ],
)
def test_a_tool_that_cannot_be_made_is_named(tmp_path, entry, message):
    with pytest.raises(ConfigError, match=message):
        made(tmp_path, entry)


def test_a_function_beside_the_file_is_a_tool(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend("")  # restores sys.path
    (tmp_path / "numbers_of_mine.py").write_text(FUNCTIONS)
    safe, plain = made(tmp_path, {"function": "numbers_of_mine:double", "effect": "none"}, "numbers_of_mine:double")
    assert (safe.effect, plain.effect, safe.spec.description) == ("none", "changes", "Double a number.")
    assert safe.run({"x": 4}, CallContext("k", tmp_path, 1.0)).text == "8"
    with pytest.raises(ConfigError, match="has no field `efect`: did you mean effect"):
        made(tmp_path, {"function": "numbers_of_mine:double", "efect": "none"})
