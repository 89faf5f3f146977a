"""Every saved message is one bubble; an answer that ended early is marked and has buttons."""

import pytest

pytest.importorskip("markdown_it", reason="the pages need the [ui] extra")

from qianwen.serve.store import Conversation  # noqa: E402
from qianwen.serve.ui.bubbles import chatbot_messages, last_question  # noqa: E402

QUESTION = {"role": "user", "content": "why <b>?"}


def bubbles(*turns: dict, is_live: bool = False) -> list[dict]:
    return chatbot_messages(Conversation("id", "title", 0.0, list(turns), {}), is_live=is_live)


def answer(end: str | None, content: str = "so", **more) -> dict:
    return {"role": "assistant", "content": content, **({"end": end} if end else {}), **more}


def test_a_complete_answer_is_not_marked():
    for end in ("stop", "tool_calls", "content_filter", "", None):
        assert bubbles(QUESTION, answer(end)) == [
            {"role": "user", "content": "why &lt;b>?"}, {"role": "assistant", "content": "so"}
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("end", "note"),
    [
        ("stopped", "You stopped this answer."),
        ("interrupted", "This answer was interrupted."),
        ("length", "This answer reached the maximum length."),
    ],
)
def test_an_answer_that_ended_early_is_marked_and_can_go_on(end, note):
    last = bubbles(QUESTION, answer(end))[-1]
    assert last["content"] == f"so\n\n<small>{note}</small>"
    assert [option["value"] for option in last["options"]] == ["continue", "retry"]
    shown = bubbles(QUESTION, answer(end), QUESTION, answer("stop"))
    assert note in shown[1]["content"] and not any("options" in bubble for bubble in shown), "buttons are for the last"


def test_a_thought_alone_can_go_on_and_nothing_at_all_can_only_be_tried_again():
    last = bubbles(QUESTION, answer("stopped", "", reasoning_content="hm"))[-1]
    assert [option["value"] for option in last["options"]] == ["continue", "retry"] and "> hm" in last["content"]
    assert [option["value"] for option in bubbles(QUESTION, answer("stopped", ""))[-1]["options"]] == ["retry"]


@pytest.mark.parametrize(("first", "second"), [("stop", "length"), ("stopped", "stop"), ("length", "stopped")])
def test_compared_answers_go_on_if_one_of_them_can(first, second):
    shown = bubbles(QUESTION, answer(first, other=answer(second)))
    assert [option["value"] for option in shown[-1]["options"]] == ["continue", "retry"]
    assert "options" not in bubbles(QUESTION, answer("stop", other=answer("stop")))[-1]


def test_a_question_without_an_answer_can_be_tried_again():
    shown = bubbles(QUESTION)
    assert len(shown) == 2 and "no answer yet" in shown[1]["content"]
    assert [option["value"] for option in shown[1]["options"]] == ["retry"]
    assert bubbles(QUESTION, is_live=True) == shown[:1] and bubbles() == []


def test_a_growing_answer_has_no_mark_and_its_thought_is_open():
    thought = answer("interrupted", "", reasoning_content="hm")
    shown = bubbles(QUESTION, thought, is_live=True)[-1]
    assert "<details open><summary>Thinking…" in shown["content"] and "small" not in shown["content"]
    shown = bubbles(QUESTION, {**thought, "content": "so"}, is_live=True)[-1]["content"]
    assert "<details><summary>Thoughts" in shown and shown.endswith("so")


def test_an_old_answer_with_a_thought_in_its_text_is_folded_too():
    shown = bubbles(QUESTION, answer(None, "<think>\nhm\n</think>\n\nso"))[-1]["content"]
    assert shown == "<details><summary>Thoughts</summary>\n\n> hm\n\n</details>\n\nso"


def test_the_last_question():
    conversation = Conversation("id", "t", 0.0, [QUESTION, answer("stop"), QUESTION, answer("stopped")], {})
    assert last_question(conversation) == 2 and last_question(Conversation("id", "t", 0.0, [], {})) == -1
