"""The tools that come with the package."""

import json

from qianwen.agents.policy import Policy
from qianwen.agents.tools import TOOLS


def test_every_tool_can_be_made_by_its_name_and_described_to_a_model():
    made = [tool for name in sorted(set(TOOLS) - {"openapi"}) for tool in TOOLS[name]()]
    names = [tool.name for tool in made]
    assert len(set(names)) == len(names)
    for tool in made:
        assert json.dumps(tool.spec.to_openai())
        assert tool.spec.description
    Policy().check(made)


def test_what_a_stranger_can_have_written_is_not_trusted():
    trusted = {tool.name for name in set(TOOLS) - {"openapi"} for tool in TOOLS[name]() if tool.is_trusted}
    assert trusted == {"calculator", "convert_time", "current_time", "date_difference", "shift_date"}
