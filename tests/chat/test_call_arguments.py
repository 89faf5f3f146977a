import pytest

from qianwen.chat import ToolCall
from qianwen.chat.call_arguments import parse_arguments
from qianwen.runtime.errors import ToolError


@pytest.mark.parametrize(
    ("arguments", "want"),
    [
        ('{"x": 1}', {"x": 1}),
        ('{"x": 1} and more', {"x": 1}),
        ('```json\n{"x": "a\nb"}\n```', {"x": "a\nb"}),
        ('Input: {"x": {"y": []}}', {"x": {"y": []}}),
    ],
)
def test_common_mistakes_in_arguments_are_accepted(arguments, want):
    assert parse_arguments(ToolCall("add", arguments)) == want


@pytest.mark.parametrize("arguments", ["", "print(1)", "[1]", '{"x": '])
def test_arguments_that_are_not_an_object_are_an_error(arguments):
    with pytest.raises(ToolError, match="add"):
        parse_arguments(ToolCall("add", arguments))
