"""The tools that come with the package."""

import json

import pytest

from qianwen.agents.policy import Policy
from qianwen.agents.tool import Tool
from qianwen.agents.tools import TOOLS


@pytest.fixture(scope="module")
def made():
    """The tools that need no option; the interpreter, which needs a sandbox, has its own tests."""
    results = [TOOLS[name]() for name in sorted(set(TOOLS) - {"openapi", "code_interpreter"})]
    return [tool for result in results for tool in ([result] if isinstance(result, Tool) else result)]


def test_every_tool_can_be_made_by_its_name_and_described_to_a_model(made):
    names = [tool.name for tool in made]
    assert len(set(names)) == len(names)
    for tool in made:
        assert json.dumps(tool.spec.to_openai())
        assert tool.spec.description
    Policy().check(made)


def test_what_a_stranger_can_have_written_is_not_trusted(made):
    trusted = {tool.name for tool in made if tool.is_trusted}
    assert trusted == {"calculator", "convert_time", "current_time", "date_difference", "shift_date"}
