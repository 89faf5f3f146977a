"""A row holds an example and its answer, comes back as they were, and is the same for two equal runs."""

import json
from dataclasses import replace

import pytest

from qianwen.chat import Message, ToolCall
from qianwen.eval.metrics import Share
from qianwen.eval.rows import answer_row, example_row, prompt_texts, scored_of
from qianwen.eval.task import Answer, Choice, Complete, Episode, Generate, Loglikelihood, Score, Scored
from qianwen.runtime.files import json_text

CALL = ToolCall("add", '{"a": 1}')
RIGHT = Score(shares={"acc": Share(1)}, extracted="B", is_right=True)
EXAMPLES = {
    "chat": Generate(
        messages=[Message("system", "短"), Message("user", "问?")], facts={"target": CALL, "set": {"b", "a"}}
    ),
    "completion": Complete(prompt="1, 2,", cluster="passage 1"),
    "choice": Choice(context="2 + 2 =", choices=(" 4", " 5")),
    "document": Loglikelihood(continuation="text"),
    "continuation": Loglikelihood(context="so", continuation=" it is"),
    "episode": Episode(messages=[Message("user", "go")], begin=lambda: lambda reply: []),
}
ANSWERS = [
    Answer(text="<b>答\ud800</b>\n", is_stopped=True, num_tokens=3),
    Answer(),
    Answer(choice_logprobs=(-0.1, -1 / 3), num_tokens=1),
    Answer(logprob=-123.45600000000003, num_tokens=7),
    Answer(text="a", further=(Answer(text="b"), Answer(text="c", tool_calls=(CALL,)))),
    Answer(
        text="3",
        conversation=(
            Message("user", "1+2"),
            Message("assistant", None, tool_calls=(CALL,), reasoning_content="add"),
            Message("tool", "3", name="add", tool_call_id="call_1"),
        ),
        shares={"calls": Share(2, 3)},
    ),
]


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("score", [RIGHT, Score(shares={}, is_right=False), Score(shares={"nats": Share(1.5, 2)})])
def test_an_answer_comes_back_as_it_was(answer: Answer, score: Score) -> None:
    example = EXAMPLES["chat"]
    row = json.loads(json_text(answer_row(7, Scored(example, answer, score))))
    back = scored_of(row, example)
    plain = tuple(replace(message, tool_call_id=None) for message in answer.conversation)
    assert back.answer == replace(answer, conversation=plain) and back.score == score
    assert row["index"] == 7 and row["score"]["verdict"] == score.verdict


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("chat", ["短", "问?"]),
        ("completion", ["1, 2,"]),
        ("choice", ["2 + 2 ="]),
        ("document", []),
        ("continuation", ["so"]),
        ("episode", ["go"]),
    ],
)
def test_a_row_has_what_the_model_was_given(kind: str, texts: list[str]) -> None:
    assert prompt_texts(EXAMPLES[kind]) == texts == example_row(0, EXAMPLES[kind])["prompt"]


def test_equal_examples_are_equal_rows_whatever_ids_and_sets_they_have() -> None:
    def fresh() -> str:
        call = ToolCall("add", "{}")  # with a random id
        example = Generate(messages=[], facts={"target": call, "names": {"x", "y", "z"}}, cluster="c")
        answer = Answer(tool_calls=(call,), conversation=(Message("assistant", "", tool_calls=(call,)),))
        return json_text(answer_row(0, Scored(example, answer, RIGHT)))

    assert fresh() == fresh() and "call_" not in fresh()
    assert json.loads(fresh())["facts"] == {"target": {"name": "add", "arguments": "{}"}, "names": ["x", "y", "z"]}
