import pytest

from qianwen.align.self_instruct.accepted import SelfInstructConfig
from qianwen.align.self_instruct.rules import answer_fault, call_fault, is_grounded, is_stated, loops, question_fault
from qianwen.chat.messages import FunctionSpec

TOOL = FunctionSpec(
    "ferry_times",
    "Next ferry",
    {
        "type": "object",
        "properties": {"harbour": {"type": "string"}, "people": {"type": "integer"}},
        "required": ["harbour", "people"],
        "additionalProperties": False,
    },
)
QUESTION = "When is the next ferry from Split for three people?"
CALL = {
    "thought": "I need the next ferry from Split.",
    "name": "ferry_times",
    "arguments": {"harbour": "Split", "people": 3},
}
RESULT = {"departs": "11:45", "price": 1240.0}
ANSWER = "The next ferry from Split leaves at 11:45 and costs 1,240 for three people."


def test_what_is_accepted():
    assert question_fault(QUESTION, "en", TOOL, CALL["arguments"]) is None
    assert question_fault("下一班从青岛出发的渡轮几点开？", "zh") is None
    assert call_fault(CALL, QUESTION, TOOL, "en") is None
    assert answer_fault(ANSWER, QUESTION, CALL["arguments"], RESULT, "en") is None


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("When?", "question too short or long"),
        ("下一班渡轮几点开，三个人，从斯普利特出发？", "question in the wrong language"),
        ("When is the ferry from [harbour] for 3?", "question with a placeholder"),
        ("Call ferry_times for Split and three people", "question about the tool"),
        ("Use this tool to find a ferry from Split for three", "question about the tool"),
        ("User: when is the ferry from Split for three?", "question with a label or an address"),
        ("/ferry?harbour=Split&people=three", "question with a label or an address"),
        ("Sure, the ferry from Split for three people is soon", "question with a label or an address"),
        ("When is the next ferry for three people?", "question without its arguments"),
        ("When is the next ferry from Split for four people?", "question without its arguments"),
    ],
)
def test_questions_that_are_rejected(question, reason):
    assert question_fault(question, "en", TOOL, CALL["arguments"]) == reason


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "none"}, "no tool called"),
        ({"name": "get_weather"}, "another tool called"),
        ({"arguments": {"harbour": "Split"}}, "arguments break the schema"),
        ({"arguments": {"harbour": "Split", "people": "3"}}, "arguments break the schema"),
        ({"arguments": {"harbour": "Split", "people": 3, "class": "first"}}, "arguments break the schema"),
        ({"arguments": {"harbour": "Bari", "people": 3}}, "arguments that the question does not give"),
        ({"arguments": {"harbour": "Split", "people": 4}}, "arguments that the question does not give"),
        ({"thought": "需要查询渡轮。"}, "text in the wrong language"),
        ({"thought": ""}, "text too short or long"),
        ({"thought": "The user's message has the parameters."}, "leaked prompt"),
        ({"thought": "go to the sea " * 4}, "loops"),
    ],
)
def test_calls_that_are_rejected(change, reason):
    assert call_fault(CALL | change, QUESTION, TOOL, "en") == reason


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("The next ferry leaves soon, please be there in time.", "answer leaves out a result"),
        ("The next ferry leaves at 11:45.", "answer leaves out a result"),
        ("It leaves at 11:45, costs 1240 and takes 55 minutes.", "answer invents a number"),
        ("渡轮11:45出发，价格1240。", "text in the wrong language"),
        ("As stated here, it leaves at 11:45 for 1240.", "leaked prompt"),
        ("It leaves at 11:45 for 1240 from [harbour].", "leaked prompt"),
        ("It leaves now. " * 40, "text too short or long"),
        ("", "text too short or long"),
    ],
)
def test_answers_that_are_rejected(answer, reason):
    assert answer_fault(answer, QUESTION, CALL["arguments"], RESULT, "en") == reason


def test_values_in_other_spellings():
    assert (
        is_grounded(12, "twelve apples") and is_grounded(3, "我们三个人") and is_grounded(1500.0, "about 1,500 metres")
    )
    assert not is_grounded(12, "112 apples") and is_grounded(True, "anything") and not is_grounded("", "anything")
    assert is_stated("In Transit", "It is in transit.") and is_stated("Inspect the brakes", "inspecting the brakes")
    assert is_stated(2.5, "2.50 euros") and not is_stated(7, "17 of 70")
    assert not is_stated("Paris, Louvre", "It is in Beijing.")
    assert is_stated("Mon 9:00-18:00", "from 9:00 to 18:00") and not is_stated("Mon 9:00-18:00", "from 9:00 to 17:00")


def test_loops_are_found_in_both_languages():
    assert loops("烤箱清洁烤箱清洁烤箱清洁烤箱清洁") and loops("the big red dog " * 3)
    assert not loops("Every sentence here is another one, and none of them is said again.")


def test_defaults_ask_for_enough():
    config = SelfInstructConfig(model="m")
    assert config.tools * config.questions * 4 >= 3000
