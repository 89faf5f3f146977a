"""The saved messages: what a request is made of, and when an answer can be continued."""

import pytest

pytest.importorskip("markdown_it", reason="the pages need the [ui] extra")

from qianwen.serve.protocol import ChatCompletionRequest  # noqa: E402
from qianwen.serve.ui.turns import answer_turn, can_continue, split_unfinished, to_wire  # noqa: E402

QUESTION = {"role": "user", "content": "why?"}


def test_only_role_and_content_are_sent():
    answer = answer_turn("yes", "let me see", "length", "tiny")
    sent = to_wire([QUESTION, answer, QUESTION], "Be brief.")
    assert sent == [
        {"role": "system", "content": "Be brief."}, QUESTION, {"role": "assistant", "content": "yes"}, QUESTION
    ]  # fmt: skip
    assert ChatCompletionRequest(model="m", messages=sent)
    assert to_wire([QUESTION]) == [QUESTION]


@pytest.mark.parametrize("name", ["notes.txt", "../../etc/passwd", "a\nb", "<b>", "报告.pdf"])
def test_the_texts_of_files_come_before_their_question(name):
    files = [{"name": name, "text": "\nfirst\n"}, {"name": "b", "text": "second"}]
    [sent] = to_wire([{**QUESTION, "files": files}])
    assert sent == {"role": "user", "content": f"{name}:\n\nfirst\n\nb:\n\nsecond\n\nwhy?"}


@pytest.mark.parametrize(
    ("text", "reasoning", "saved"),
    [
        ("yes", "", {"content": "yes"}),
        ("yes", " so \n", {"content": "yes", "reasoning_content": "so"}),
        ("<think>so</think>\n\nyes", "", {"content": "yes", "reasoning_content": "so"}),
        ("<think>so", "", {"content": "", "reasoning_content": "so"}),
        ("<think></think>yes", "", {"content": "yes"}),
        ("a <think>", "", {"content": "a <think>"}),
    ],
)
def test_thoughts_are_saved_apart_from_the_answer(text, reasoning, saved):
    assert answer_turn(text, reasoning, "stop", "m") == {"role": "assistant", "end": "stop", "model": "m", **saved}


@pytest.mark.parametrize(
    ("turn", "expected"),
    [
        ({"content": "a", "end": "stopped"}, True),
        ({"content": "a", "end": "interrupted"}, True),
        ({"content": "a", "end": "length"}, True),
        ({"content": "a", "end": "stop"}, False),
        ({"content": "a", "end": "content_filter"}, False),
        ({"content": "", "end": "stopped", "reasoning_content": "b"}, True),
        ({"content": "", "end": "stopped"}, False),
        ({"content": "a", "end": "stop", "other": {"content": "b", "end": "length"}}, True),
        ({"content": "a", "end": "length", "other": {"content": "b", "end": "stop"}}, True),
        ({"content": "a", "end": "stop", "other": {"content": "b", "end": "stop"}}, False),
        ({"content": "", "end": "stopped", "other": {"content": "", "end": "stopped"}}, False),
        ({"content": "a"}, False),  # saved before ends were
    ],
)
def test_an_answer_that_ended_early_can_be_continued(turn, expected):
    assert can_continue({"role": "assistant", **turn}) is expected


def test_the_unfinished_answer_is_split_off():
    answer = {"role": "assistant", "content": "a"}
    assert split_unfinished([QUESTION, answer]) == ([QUESTION], answer)
    assert split_unfinished([QUESTION]) == ([QUESTION], None) and split_unfinished([]) == ([], None)
