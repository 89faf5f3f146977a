"""The messages of a saved conversation: what is sent to the model, and how an answer ended.

A saved message is a dict in OpenAI's form with a few more fields:

    user        files              attached files, each with its name and its text
    assistant   other              the answer of a second model to the same question, if two are compared
                reasoning_content  what the model thought before it answered
                end                how the answer ended (see `MARKED`); absent in old conversations
                model              the name of the model that answered

An answer is saved as `interrupted` from its first token on, and gets its true end when it ends. So an answer that a
crash cuts off is marked without any repair at the next start.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qianwen.serve.ui.text import split_thought

Turn = dict[str, Any]
INTERRUPTED, STOPPED = "interrupted", "stopped"
MARKED = frozenset({INTERRUPTED, STOPPED, "length"})  # ends after which an answer can be continued


def to_wire(turns: Sequence[Turn], system: str = "") -> list[Turn]:
    """The messages of a request: the texts of attached files before their question, and no thoughts."""
    messages = [{"role": "system", "content": system}] if system else []
    return messages + [{"role": turn["role"], "content": _content(turn)} for turn in turns]


def _content(turn: Turn) -> str:
    files = [f"{file['name']}:\n\n{file['text'].strip()}\n\n" for file in turn.get("files", ())]
    return "".join(files) + turn["content"]


def answer_turn(text: str, reasoning: str, end: str, model: str) -> Turn:
    """An answer. A thought inside `text`, from a server that does not separate it, becomes reasoning."""
    thought, text = split_thought(text)
    reasoning += thought
    turn = {"role": "assistant", "content": text, "end": end, "model": model}
    return turn | ({"reasoning_content": reasoning.strip()} if reasoning.strip() else {})


def split_unfinished(turns: list[Turn]) -> tuple[list[Turn], Turn | None]:
    """The turns up to the last question, and the answer after it if there is one."""
    return (turns[:-1], turns[-1]) if turns and turns[-1]["role"] == "assistant" else (turns, None)


def both(answer: Turn) -> list[Turn]:
    """The one answer, or the two that are compared, each by itself."""
    first = {name: value for name, value in answer.items() if name != "other"}
    return [first, *([answer["other"]] if "other" in answer else [])]


def can_continue(turn: Turn) -> bool:
    """Whether an answer, or one of two compared answers, has text or thoughts and ended before its end token."""
    return any(map(is_unfinished, both(turn)))


def is_unfinished(turn: Turn) -> bool:
    """Whether one answer has text or thoughts and ended before its end token."""
    return turn.get("end") in MARKED and bool(turn["content"] or turn.get("reasoning_content"))


def view(turns: Sequence[Turn], side: int) -> list[Turn]:
    """The conversation as one of two compared models sees it: with its own answers, where it has given one."""
    return [turn.get("other", turn) for turn in turns] if side else list(turns)
