import pytest

from qianwen.align.choosing.checks import CHECKS, MAX_ANSWER, findings, is_repeated
from qianwen.chat.messages import FunctionSpec, Message, ToolCall

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER, CODE = FunctionSpec("weather", "", SCHEMA), FunctionSpec("python", "", {}, args_format="code")
REACT = "Thought: look\nAction: weather\nAction Input: {}\nObservation: rain\nThought: done\nFinal Answer: Rain."


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        ("How are you?", "Fine, thank you.", []),
        ("How are you?", " \n", ["empty"]),
        ("Who are you?", "I'm sorry, but I can't help with that.", ["refusal"]),
        ("Tell me", "".join(f"word{n} " for n in range(MAX_ANSWER)), ["long"]),
        ("Tell me", "we see the red house on the hill now. " * 5, ["repeated"]),
        ("杭州今天的天气怎么样？", "It rains in the whole city.", ["language"]),
        ("How are you?", "我今天很好，谢谢你的关心。", ["language"]),
        ("2 + 3", "5", []),
        ("weather in Rome?", REACT, ["arguments"]),
        ("weather in Rome?", REACT.replace("{}", '{"city": "Rome"}'), []),
    ],
)
def test_each_check_finds_its_own_fault(question, answer, expected):
    assert findings([Message("user", question), Message("assistant", answer)], [WEATHER]) == expected


@pytest.mark.parametrize(
    ("name", "arguments", "is_valid"),
    [
        ("weather", '{"city": "Rome"}', True),
        ("weather", "{}", False),
        ("weather", "city", False),
        ("weather", '["Rome"]', False),
        ("weather", "[" * 10_000, False),
        ("unknown", "{}", False),
        ("python", "print(1)", True),
    ],
)
def test_arguments_are_checked_against_the_schema(name, arguments, is_valid):
    message = Message("assistant", "", tool_calls=(ToolCall(name, arguments),))
    assert findings([Message("user", "q"), message], [WEATHER, CODE]) == ([] if is_valid else ["arguments"])


def test_a_list_with_equal_words_is_not_repeated_text():
    assert not is_repeated("\n".join(f"{n}. a house with {n} rooms" for n in range(20)))
    assert set(findings([Message("assistant", "")], [])) <= set(CHECKS)
