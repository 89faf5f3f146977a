"""Arguments are read as models write them, and what is wrong is named so that a model can repair it."""

import pytest

from qianwen.agents.arguments import json_schema, read_arguments, violation
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec, ToolCall
from qianwen.runtime.errors import ToolError

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
        "unit": {"enum": ["C", "F"]},
        "at": {"type": "array", "items": {"$ref": "#/$defs/place"}},
    },
    "required": ["city"],
    "additionalProperties": False,
    "$defs": {"place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}
WEATHER = FunctionSpec("weather", parameters=SCHEMA)
V1 = [{"name": "code", "description": "待执行的代码", "type": "string", "required": True}]
CODE = FunctionSpec("code_interpreter", parameters=V1, args_format="code")


def read(text, spec=WEATHER):
    return read_arguments(ToolCall(spec.name, text), spec)


@pytest.mark.parametrize(
    "text",
    [
        '{"city": "杭州"}',
        "{city: '杭州',}",
        '```json\n{"city": "杭州"}\n```',
        'The arguments are {"city": "杭州"} as you see.',
        '"{\\"city\\": \\"杭州\\"}"',
    ],
)
def test_json_with_the_mistakes_of_models_is_read(text):
    assert read(text) == {"city": "杭州"}


@pytest.mark.parametrize(
    "text",
    ["print(1)", "```py\nprint(1)\n```", "`print(1)`", '{"code": "print(1)"}', "```\nprint(1)\n```\nThis prints 1."],
)
def test_code_is_the_one_argument_of_a_tool_that_takes_code(text):
    assert read(text, CODE) == {"code": "print(1)"}


def test_code_that_is_a_dictionary_is_code():
    assert read("{'a': 1}['a']", CODE) == {"code": "{'a': 1}['a']"}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "`city` is missing."),
        ('{"cty": "Ulm"}', "`city` is missing (you wrote `cty`)."),
        ('{"city": "Ulm", "day": 1}', "there is no `day`; the fields are city, days, unit, at."),
        ('{"city": 5}', '`city` must be string with {"minLength": 2}; got 5.'),
        ('{"city": "Ulm", "days": 8}', '`days` must be integer with {"minimum": 1, "maximum": 7}; got 8.'),
        ('{"city": "Ulm", "unit": "K"}', '`unit` must be one of "C", "F"; got "K".'),
        ('{"city": "Ulm", "at": [{"x": 1}, {"x": "a"}]}', '`at[1].x` must be number; got "a".'),
        ('{"city": "Ulm", "at": [{}]}', "`at[0].x` is missing."),
        ("Ulm", 'The arguments are not a JSON object. You wrote: "Ulm"'),
        ("[1]", 'The arguments are not a JSON object. You wrote: "[1]"'),
    ],
)
def test_the_wrong_field_is_named(text, problem):
    with pytest.raises(ToolError) as error:
        read(text)
    assert str(error.value).removeprefix("The arguments are wrong: ") == problem


@pytest.mark.parametrize("schema", [{"not": {"type": "string"}}, {"anyOf": [{"type": "null"}]}, False, {"const": 3}])
def test_what_no_rule_names_is_still_refused(schema):
    assert not satisfies("text", schema) and "`x`" in violation({"x": "text"}, {"properties": {"x": schema}})


def test_a_schema_without_an_end_is_refused():
    endless = {"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}
    with pytest.raises(ToolError, match="do not satisfy"):
        read("{}", FunctionSpec("t", parameters=endless))


def test_a_list_of_named_parameters_is_a_schema():
    assert json_schema(V1) == {"type": "object", "properties": {"code": {"type": "string"}}, "required": ["code"]}
    assert json_schema(None)["properties"] == {}
