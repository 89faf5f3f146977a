import pytest

from qianwen.chat import FunctionSpec, Message, ToolCall
from qianwen.chat.functions import call_reader
from qianwen.chat.model import collect
from qianwen.chat.react import react_turns
from qianwen.chat.react_prompts import REACT_STYLES, react_instruction, react_prompt

SEARCH = FunctionSpec("Search", "Finds pages.", [{"name": "query"}], "google search")
CODE = FunctionSpec("python", "Runs code.", {"type": "object"}, args_format="code")
TOOLS_PROMPT = (
    "Answer the following questions as best you can. You have access to the following tools:\n\n"
    "Search: Call this tool to interact with the google search API. What is the google search API useful for? "
    'Finds pages. Parameters: [{"name": "query"}] Format the arguments as a JSON object.\n\n'
    "python: Call this tool to interact with the python API. What is the python API useful for? Runs code. "
    'Parameters: {"type": "object"} '
    "Enclose the code within triple backticks (`) at the beginning and end of the code.\n\n"
    "Use the following format:\n\n"
    "Question: the input question you must answer\n"
    "Thought: you should always think about what to do\n"
    "Action: the action to take, should be one of [Search,python]\n"
    "Action Input: the input to the action\n"
    "Observation: the result of the action\n"
    "... (this Thought/Action/Action Input/Observation can be repeated zero or more times)\n"
    "Thought: I now know the final answer\n"
    "Final Answer: the final answer to the original input question\n\n"
    "Begin!\n\n"
    "Question: 加拿大有多少人？"
)
SENTENCE = " Format the arguments as a JSON object."
STYLES = list(REACT_STYLES)
FIRST = 'Thought: I look.\nAction: Search\nAction Input: {"query": "加拿大"}\nObservation: 4000万'


@pytest.mark.parametrize(
    ("style", "want"),
    [
        ("react_tools", TOOLS_PROMPT),
        ("react_langchain", TOOLS_PROMPT),
        ("react_qwen_agent", TOOLS_PROMPT.replace(SENTENCE, "") + "\nThought: "),
        (
            "react",
            TOOLS_PROMPT.replace(SENTENCE, "").replace("following tools", "following APIs").replace(",py", ", py"),
        ),
    ],
)
def test_each_prompt_equals_the_published_one(style, want):
    assert react_prompt([SEARCH, CODE], "加拿大有多少人？", style) == want
    assert want.startswith(react_instruction([SEARCH, CODE], style))


def run(*, is_answered: bool, arguments: str = '{"query": "加拿大"}') -> list[Message]:
    call = ToolCall("Search", arguments)
    messages = [Message("user", "q"), Message("assistant", "I look.", tool_calls=(call,)), Message("tool", "4000万")]
    return [*messages, Message("assistant", "4000万。")] if is_answered else messages


def texts(turns) -> list[tuple[str, str]]:
    return [(turn.role, "".join(span.text for span in turn.spans)) for turn in turns]


@pytest.mark.parametrize(
    ("style", "after_question"),
    [
        ("react_tools", "\n" + FIRST),
        ("react_langchain", FIRST),  # the notebook writes no line end between the question and the reply
        ("react_qwen_agent", FIRST.removeprefix("Thought: ") + "\nThought: "),
    ],
)
def test_a_result_is_appended_to_the_question_when_the_model_goes_on(style, after_question):
    ((role, text),) = texts(react_turns(run(is_answered=False), [SEARCH], style, is_open=True))
    assert role == "user" and text == react_prompt([SEARCH], "q", style) + after_question


def test_a_result_continues_the_answer_in_the_format_of_training():
    question, answer = texts(react_turns(run(is_answered=False), [SEARCH], is_open=True))
    assert question == ("user", react_prompt([SEARCH], "q")) and answer == ("assistant", FIRST)


@pytest.mark.parametrize("style", STYLES)
def test_a_run_of_the_past_is_a_turn_of_its_own(style):
    """Only the newest question has the instruction; in `react`, as in training, the last one with an answer."""
    messages = [*run(is_answered=True), Message("user", "Sure?")]
    (_, first), (_, answer), (_, second) = texts(react_turns(messages, [SEARCH], style))
    done = FIRST + "\nThought: I now know the final answer.\nFinal Answer: 4000万。"
    assert answer == done
    is_first = style == "react"
    assert first == (react_prompt([SEARCH], "q", style) if is_first else "q")
    assert second == ("Sure?" if is_first else react_prompt([SEARCH], "Sure?", style))


@pytest.mark.parametrize("style", STYLES)
def test_what_is_written_is_read_again(style):
    """From a run to text and back: prompt and replies are the same in both directions, however a reply is split."""
    messages = run(is_answered=True)
    for written in (messages[:2], messages):
        start = written[:-1]
        whole = texts(react_turns(written, [SEARCH], style))[-1][1]
        before = texts(react_turns(start, [SEARCH], style))[-1][1] + "\n" if len(start) > 1 else ""
        reply = whole.removeprefix(before)
        for chunks in ([reply], list(reply), [reply[:7], reply[7:]]):
            reader = call_reader(style, start, [SEARCH])
            deltas = [delta for chunk in chunks for delta in reader.feed(chunk)]
            read = collect([*deltas, *reader.finish()])
            assert (read.content, read.tool_calls) == (written[-1].content, written[-1].tool_calls)


def test_code_begins_on_a_line_of_its_own_in_qwen_agent():
    messages = run(is_answered=False, arguments="```py\nprint(1)\n```")
    for style, between in (("react_qwen_agent", "\n"), ("react_tools", "")):
        ((_, text),) = texts(react_turns(messages, [SEARCH], style, is_open=True))
        assert f"Action Input: {between}```py\n" in text
