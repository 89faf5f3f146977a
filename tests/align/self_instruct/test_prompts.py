import string

import pytest

from qianwen.align.languages import is_in_language
from qianwen.align.self_instruct.prompts import call_schema, questions_schema, texts
from qianwen.align.service.simulated_tools import seed_tools
from qianwen.chat.json_schema import satisfies

FIELDS = {
    "tool": {"area", "examples"},
    "questions": {"tool", "person", "examples"},
    "plain": {"area", "person", "examples"},
    "call": {"tools", "question"},
    "answer": {"question", "result"},
    "direct": {"question"},
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_texts_have_their_fields_in_their_language(language):
    given = texts(language)
    for name, prompt in given["prompts"].items():
        assert {field for _, field, _, _ in string.Formatter().parse(prompt) if field} == FIELDS[name]
    assert len(set(given["areas"])) == len(given["areas"]) >= 60 and len(given["people"]) >= 12
    assert all(is_in_language(text, language) for text in (*given["areas"], *given["people"]))


def test_schemas_allow_what_is_asked_for_and_nothing_else():
    tool = seed_tools("en")[0].spec
    schema = call_schema([tool])
    good = {"thought": "I need it.", "name": "get_weather", "arguments": {"city": "Oslo"}}
    assert satisfies(good, schema) and satisfies({**good, "name": "none", "arguments": {}}, schema)
    assert not satisfies({**good, "name": "other"}, schema) and not satisfies({**good, "arguments": {}}, schema)
    four = [{"arguments": {"city": "Oslo"}, "message": "Is it cold in Oslo?"}] * 4
    assert satisfies({"messages": four}, questions_schema(tool)) and not satisfies(
        {"messages": four[:3]}, questions_schema(tool)
    )
