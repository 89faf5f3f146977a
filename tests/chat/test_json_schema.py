import pytest

from qianwen.chat.json_schema import satisfies

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TREE = {
    "type": "object",
    "properties": {"next": {"$ref": "#"}, "v": {"$ref": "#/$defs/v"}},
    "$defs": {"v": {"type": "null"}},
}
CASES = [
    (OBJECT, [{"a": 1}, {"a": 1.0}, {"a": 1, "b": 2}], [{}, {"a": "1"}, {"a": True}, {"a": 1.5}, [], None, 1]),
    ({**OBJECT, "additionalProperties": False}, [{"a": 1}], [{"a": 1, "b": 2}]),
    ({"additionalProperties": {"type": "string"}}, [{}, {"x": "y"}, 7], [{"x": 1}]),
    ({"type": ["string", "null"]}, ["x", None], [1, False]),
    ({"enum": ["a", 1, None]}, ["a", 1, None], ["b", True, 2]),
    ({"const": 1}, [1, 1.0], [True, 2]),
    (
        {"type": "array", "items": {"type": "number"}, "minItems": 1, "maxItems": 2},
        [[1], [1, 2.5]],
        [[], ["a"], [1, 2, 3]],
    ),
    ({"prefixItems": [{"type": "string"}], "items": False}, [[], ["a"]], [[1], ["a", "b"]]),
    ({"minimum": 0, "exclusiveMaximum": 2}, [0, 1.9, "text"], [-1, 2]),
    ({"multipleOf": 3}, [0, 9], [4]),
    ({"minLength": 2, "maxLength": 3, "pattern": "^a"}, ["ab", "abc"], ["a", "abcd", "bb"]),
    ({"pattern": "("}, ["x"], []),
    ({"anyOf": [{"type": "string"}, {"minimum": 3}]}, ["x", 3], [1]),
    ({"oneOf": [{"type": "integer"}, {"minimum": 3}]}, [1, 3.5], [5]),
    ({"allOf": [{"type": "integer"}, {"minimum": 3}]}, [3], [1, 3.5]),
    ({"not": {"type": "string"}}, [1], ["x"]),
    (
        {"patternProperties": {"^x": {"type": "integer"}}, "additionalProperties": False},
        [{"x1": 1}],
        [{"x1": "a"}, {"y": 1}],
    ),
    (TREE, [{"next": {"next": {}}}, {"v": None}], [{"next": {"next": 1}}, {"v": 1}]),
    ({"$ref": "#/missing"}, [], [1]),
    ({"$ref": "#"}, [], [1]),  # refers to itself without end
    ({"type": "any"}, ["x", 1], []),  # not JSON's, but functions of Python are often described so
    ({"type": ["dict", "null"]}, [{}, None], []),
    ({"type": "string", "nullable": True}, ["x", None], [1]),
    ({"nullable": True, "enum": ["a"]}, ["a"], [None]),  # JSON Schema's enum still decides
    ({"$ref": "#/%24defs/a", "$defs": {"a": {"type": "integer"}}}, [1], ["x"]),
    ({"$ref": "#/prefixItems/0", "prefixItems": [{"type": "integer"}]}, [1], ["x"]),
    ({"$ref": "#/prefixItems/7", "prefixItems": []}, [], [1]),
    ({"minimum": 0.5, "maximum": 1.5}, [1, 0.5], [0, 2]),  # an integer beside a fraction
    ({"exclusiveMinimum": 0.5}, [1], [0]),
    ({"minLength": 1.5}, ["ab"], ["a"]),
    ({"enum": [{"a": 1}, [1]]}, [{"a": 1.0}, [1]], [{"a": True}, [True], {"a": 1, "b": 1}, [1, 1]]),
    ({"const": {"a": [False]}}, [{"a": [False]}], [{"a": [0]}]),
    ({"format": "date"}, ["anything"], []),
    (True, [1], []),
    (False, [], [1]),
    ([{"name": "city"}], [{"anything": 1}], []),  # Qwen v1's list of parameters is no schema
]


@pytest.mark.parametrize(("schema", "allowed", "refused"), CASES)
def test_what_a_schema_allows(schema, allowed, refused):
    assert [value for value in allowed if not satisfies(value, schema)] == []
    assert [value for value in refused if satisfies(value, schema)] == []
