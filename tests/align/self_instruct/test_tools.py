import json

import pytest

from qianwen.align.self_instruct.tools import Rejected, ToolReader


def reply(**fields) -> str:
    tool = {
        "name": "ferry_times",
        "description": "Departure of the next ferry from a harbour.",
        "parameters": [
            {
                "name": "harbour",
                "type": "string",
                "description": "Name of the harbour",
                "examples": ["Split", "Bari", "Kiel"],
            }
        ],
        "results": [
            {
                "name": "departs",
                "type": "string",
                "description": "Time of day",
                "examples": ["09:10", "11:45", "18:00"],
            },
            {"name": "price", "type": "number", "description": "Price", "examples": ["12", "20.5", "1,040"]},
        ],
    }
    return json.dumps(tool | fields)


def parameter(**fields) -> list[dict]:
    return [json.loads(reply())["parameters"][0] | fields]


def result(**fields) -> list[dict]:
    return [json.loads(reply())["results"][0] | fields]


def test_a_tool_with_a_schema_and_a_simulator():
    tool = ToolReader().read(reply(), "en")
    assert tool.spec.parameters["required"] == ["harbour"]
    assert tool.returns == {"departs": ["09:10", "11:45", "18:00"], "price": [6.0, 1768.0]}
    assert set(tool.call({"harbour": "Split"}, "1")) == {"departs", "price"}


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"parameters": []}, "invalid JSON"),
        ({"name": "Ferry times!"}, "invalid JSON"),
        ({"name": "abc"}, "bad name"),
        ({"description": "下一班渡轮的时间。"}, "description cut short or in the wrong language"),
        (
            {"description": "Departure 渡轮 of a ferry from one of the harbours"},
            "description cut short or in the wrong language",
        ),
        ({"description": "x" * 140}, "description cut short or in the wrong language"),
        ({"description": "Current weather of a city."}, "near duplicate"),
        ({"parameters": parameter(examples=["Example", "String", "Value"])}, "examples of a parameter say nothing"),
        ({"parameters": parameter(type="integer")}, "examples of a parameter have another type"),
        ({"parameters": parameter() * 2}, "parameter twice"),
        ({"results": result(name="harbour_name")}, "no usable result"),
        ({"results": result(examples=["same", "same", "same"])}, "no usable result"),
        ({"results": result(name="name")}, "no usable result"),
        ({"results": result(examples=["0", "0", "0"])}, "no usable result"),
    ],
)
def test_rejected_with_a_reason(fields, reason):
    with pytest.raises(Rejected, match=f"^{reason}$"):
        ToolReader().read(reply(**fields), "en")


def test_what_is_no_json_is_rejected():
    for text in ("", "{", "[]", "I cannot do that.", "[" * 100_000):
        with pytest.raises(Rejected, match="invalid JSON"):
            ToolReader().read(text, "en")


def test_a_near_duplicate_is_rejected_and_a_name_that_is_taken_gets_a_number():
    reader = ToolReader()
    reader.read(reply(), "en")
    with pytest.raises(Rejected, match="near duplicate"):
        reader.read(reply(description="Departure of the next ferry from the harbour."), "en")
    assert reader.read(reply(description="Number of cars that fit on a boat"), "en").spec.name == "ferry_times_2"
    assert (
        reader.read(reply(name="get_weather", description="Height of waves at sea"), "en").spec.name == "get_weather_2"
    )


def test_a_result_that_repeats_a_parameter_is_left_out():
    results = [*result(name="harbour_name"), *result(name="platform", examples=["1", "2", "3"])]
    assert ToolReader().read(reply(results=results), "en").returns == {"platform": [0, 6]}
