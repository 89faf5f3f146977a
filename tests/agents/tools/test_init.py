"""The tools that come with the package."""

import json

from qianwen.agents.policy import Policy
from qianwen.agents.tool import Tool
from qianwen.agents.tools import TOOLS


def built_in() -> list[Tool]:
    made = [TOOLS[name]() for name in sorted(set(TOOLS) - {"openapi"})]  # which needs a schema
    return [tool for tools in made for tool in ([tools] if isinstance(tools, Tool) else tools)]


def test_every_tool_can_be_made_by_its_name_and_described_to_a_model():
    names = [tool.name for tool in built_in()]
    assert len(set(names)) == len(names)
    for tool in built_in():
        assert json.dumps(tool.spec.to_openai())
        assert tool.spec.description
    Policy().check(built_in())


def test_what_a_stranger_can_have_written_is_not_trusted():
    trusted = {tool.name for tool in built_in() if tool.is_trusted}
    assert trusted == {"calculator", "convert_time", "current_time", "date_difference", "shift_date"}
