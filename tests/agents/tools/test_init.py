"""The tools that come with the package."""

import json

import pytest

from qianwen.agents.config import AgentConfig, make_tools
from qianwen.agents.policy import Policy
from qianwen.agents.tools import TOOLS
from qianwen.runtime.errors import ConfigError
from qianwen.sandbox.process import Sandbox


@pytest.fixture(scope="module")
def made():
    """All of them but those of a schema; the interpreter where a sandbox works."""
    names = set(TOOLS) - {"openapi"}
    try:
        Sandbox.open()
    except ConfigError:
        names -= {"code_interpreter"}
    tools = make_tools(AgentConfig(tools=sorted(names)), TOOLS)
    yield tools
    for tool in tools:
        if tool.close is not None:
            tool.close()


def test_every_tool_can_be_made_by_its_name_and_described_to_a_model(made):
    assert len({tool.name for tool in made}) == len(made)
    for tool in made:
        assert json.dumps(tool.spec.to_openai())
        assert tool.spec.description
    Policy().check(made)


def test_what_a_stranger_can_have_written_is_not_trusted(made):
    trusted = {tool.name for tool in made if tool.is_trusted}
    assert trusted == {"calculator", "convert_time", "current_time", "date_difference", "shift_date"}
