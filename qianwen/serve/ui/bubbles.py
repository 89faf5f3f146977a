"""The messages of a conversation in the form of Gradio's chat component.

Every saved message is one bubble, so an index in the component is an index in the conversation. Thoughts are folded, an
answer that ended early says so, and the last one then has buttons to continue it or to ask again.
"""

from __future__ import annotations

from typing import Any

from qianwen.runtime.translation import tr
from qianwen.serve.store import Conversation
from qianwen.serve.ui.attachments import shown_question
from qianwen.serve.ui.text import split_thought, thought_to_markdown, to_markdown, with_note
from qianwen.serve.ui.turns import INTERRUPTED, STOPPED, Turn, both, can_continue, view

CONTINUE, RETRY = "continue", "retry"  # values of the buttons


def chatbot_messages(
    conversation: Conversation, *, is_live: bool, with_names: bool = False, side: int = 0
) -> list[dict[str, Any]]:
    """The bubbles. `is_live`: an answer is being generated, so the last message is not marked.

    `with_names`: each answer names its model. `side` 1: the answers of the second of two compared models.
    """
    turns = view(conversation.messages, side)
    bubbles: list[dict[str, Any]] = []
    for index, turn in enumerate(turns):
        is_growing = is_live and index == len(turns) - 1
        content = to_markdown(shown_question(turn)) if turn["role"] == "user" else _answer(turn, is_growing, with_names)
        bubbles.append({"role": turn["role"], "content": content})
    if is_live or not turns or side:
        return bubbles
    if turns[-1]["role"] == "user":
        bubbles.append({"role": "assistant", "content": with_note("", tr("This question has no answer yet."))})
        bubbles[-1]["options"] = [_retry_button()]
    elif any(answer.get("end") in _notes() for answer in both(turns[-1])):
        proceed = [{"value": CONTINUE, "label": tr("Continue")}] if can_continue(turns[-1]) else []
        bubbles[-1]["options"] = [*proceed, _retry_button()]
    return bubbles


def last_question(conversation: Conversation) -> int:
    """The index of the last question; -1 if there is none."""
    indices = [index for index, turn in enumerate(conversation.messages) if turn["role"] == "user"]
    return indices[-1] if indices else -1


def _answer(turn: Turn, is_growing: bool, with_names: bool) -> str:
    text, thought = turn["content"], turn.get("reasoning_content", "")
    if not thought:  # an answer that was saved before thoughts had a field of their own
        thought, text = split_thought(text)
    shown = thought_to_markdown(thought, is_open=is_growing and not text) if thought else ""
    shown += to_markdown(text)
    name = turn.get("model", "") if with_names else ""
    note = "" if is_growing else _notes().get(turn.get("end", ""), "")
    line = " · ".join(filter(None, (name, note)))
    return with_note(shown, line) if line else shown


def _notes() -> dict[str, str]:
    return {
        STOPPED: tr("You stopped this answer."),
        INTERRUPTED: tr("This answer was interrupted."),
        "length": tr("This answer reached the maximum length."),
    }


def _retry_button() -> dict[str, str]:
    return {"value": RETRY, "label": tr("Try again")}
