import json
import random

import pytest

from qianwen.align.languages import is_in_language
from qianwen.align.service.simulated_tools import SimulatedTool, seed_tools
from qianwen.chat.json_schema import satisfies
from qianwen.chat.messages import FunctionSpec


@pytest.mark.parametrize("language", ["en", "zh"])
def test_seeds_have_at_least_20_tools_and_40_questions(language):
    tools = seed_tools(language)
    assert len(tools) >= 20 and sum(len(tool.example.questions) for tool in tools) >= 40
    assert len({tool.spec.name for tool in tools}) == len(tools)


@pytest.mark.parametrize("tool", [*seed_tools("en"), *seed_tools("zh")], ids=lambda tool: tool.spec.description[:30])
def test_questions_arguments_and_answers_fit_each_other(tool):
    draw = random.Random(0)
    language = "en" if is_in_language(tool.spec.description, "en") else "zh"
    for seed in range(20):
        question, arguments = tool.draw(draw)
        result = tool.call(arguments, str(seed))
        assert satisfies(arguments, tool.spec.parameters) and all(
            str(value) in question for value in arguments.values()
        )
        answer = tool.example.answer.format(**arguments, **{k: v for k, v in result.items() if k not in arguments})
        assert "{" not in tool.example.thought.format(**arguments) + answer
        assert is_in_language(question, language) and is_in_language(answer, language)
        assert any(str(value) in answer for value in result.values())


def test_the_same_call_with_the_same_seed_has_the_same_result():
    tool = seed_tools("en")[0]
    results = [json.dumps(tool.call({"city": "Oslo"}, seed)) for seed in ("a", "a", "b")]
    assert results[0] == results[1] != results[2]


def test_values_have_the_form_that_the_tool_says():
    tool = SimulatedTool(
        FunctionSpec("t"), {"n": [3, 5], "x": [0.5, 2.5], "s": ["red", "blue"], "c": "A-##", "e": "=city"}
    )
    for seed in range(50):
        result = tool.call({"city": "Rome"}, str(seed))
        assert result["n"] in (3, 4, 5) and 0.5 <= result["x"] <= 2.5 and result["s"] in ("red", "blue")
        assert result["c"][:2] == "A-" and result["c"][2:].isdigit() and result["e"] == "Rome"


def test_where_a_formula_is_known_the_value_is_computed():
    tools = {tool.spec.name: tool for tool in seed_tools("en")}
    assert tools["body_mass_index"].call({"height": 180, "weight": 81}, "")["index"] == 25.0
    loan = tools["loan_payment"].call({"principal": 12000, "years": 10, "rate": 0}, "")
    assert loan == {"monthly": 100.0, "interest_total": 0}
    assert tools["loan_payment"].call({"principal": 10000, "years": 10, "rate": 6}, "")["monthly"] == 111.02
