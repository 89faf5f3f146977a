"""The window over a history: the newest turns of a conversation that fit (Qwen v1's released code)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qianwen.chat.chatml import DEFAULT_SYSTEM
from qianwen.chat.messages import Message
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

MAX_WINDOW_SIZE = 6144  # tokens of system prompt and history that the released chat models keep


@dataclass(frozen=True)
class Trimmed:
    """A conversation that fits the window, and the number of oldest turns that were dropped."""

    messages: list[Message]
    num_dropped: int

    @property
    def note(self) -> str:
        """The notice for the user; empty if nothing was dropped."""
        if not self.num_dropped:
            return ""
        note = "[{count} earlier turn(s) do not fit the model's context window and are not sent to the model]"
        return tr(note, count=self.num_dropped)


def trim_history(messages: Sequence[Message], tokenizer: Tokenizer, max_window_size: int = MAX_WINDOW_SIZE) -> Trimmed:
    """Keep the newest turns (a question and its answer) while system prompt and history stay below the window.

    The last question is always kept and not counted, as in the released code. A caller that needs room for it and for
    the answer passes a smaller window.
    """
    has_system = bool(messages) and messages[0].role == "system"
    system = messages[0] if has_system else Message("system", DEFAULT_SYSTEM)
    turns: list[list[Message]] = []
    for message in messages[has_system:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    used = _size(system, tokenizer) - 1  # the released code does not count the line end after the system turn
    kept_turns = turns[-1:]
    for turn in reversed(turns[:-1]):
        used += sum(_size(message, tokenizer) for message in turn)
        if used >= max_window_size:
            break
        kept_turns.insert(0, turn)
    head = [system] if has_system else []
    return Trimmed([*head, *(message for turn in kept_turns for message in turn)], len(turns) - len(kept_turns))


def _size(message: Message, tokenizer: Tokenizer) -> int:
    """Tokens of a turn with its <|im_start|>, <|im_end|> and the line end that joins it to the next."""
    texts = [message.role, "\n", message.text, *(call.name + call.arguments for call in message.tool_calls)]
    return 3 + sum(len(tokenizer.encode(text)) for text in texts)
