r"""ChatML: a conversation as token ids (Qwen report, section 3.1.1). The only writer of control tokens.

    <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
    <|im_start|>user\n你好<|im_end|>\n
    <|im_start|>assistant\n

A prompt is a structure, never a string: control ids are placed here, and role and content are encoded apart by the
tokenizer's `encode`, which cannot yield one. So no text of a user, a document or a tool closes its own turn.

What a model learns from is a mask over the same ids:

    clean       the assistant's text and the <|im_end|> behind it; a tool's result inside its turn is not its text
    memo        everything but the content of users' turns
    reference   the released finetune.py: also every <|im_start|>, <|im_end|> and line end, those of users included
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Literal

from qianwen.chat.functions import FunctionFormat, function_format, lay_out
from qianwen.chat.messages import FunctionSpec, Message, Span, Turn
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

Mask = Literal["clean", "memo", "reference"]
DEFAULT_SYSTEM = "You are a helpful assistant."
MAX_WINDOW_SIZE = 6144  # tokens of system and history that the released chat models keep


@dataclass
class Rendered:
    """Token ids of a conversation, and for each whether a model is trained to write it."""

    ids: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)

    def append(self, ids: Sequence[int], learn: bool) -> None:
        self.ids.extend(ids)
        self.loss_mask.extend([learn] * len(ids))


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    functions: Sequence[FunctionSpec] = (),
    style: FunctionFormat | None = None,
    mask: Mask = "clean",
    add_generation_prompt: bool = False,
) -> Rendered:
    """Lay a conversation out in ChatML.

    Without a system message the default one is placed; an empty one stays, empty. `style` of functions is the one the
    vocabulary was made for. With `add_generation_prompt` the ids end where the assistant speaks next: in a new turn, or
    in ReAct after a tool's result inside the turn that called it.
    """
    style = style or function_format(tokenizer)
    if not messages or messages[0].role != "system":
        messages = [Message("system", DEFAULT_SYSTEM), *messages]
    turns = lay_out(messages, functions, style)
    is_open = add_generation_prompt and style == "react" and messages[-1].role == "tool"
    out = Rendered()
    for turn in turns[:-1] if is_open else turns:
        _write_turn(out, turn, tokenizer, mask)
    if is_open:
        spans = (*turns[-1].spans, Span("\nThought:", is_model=True))
        _write_turn(out, Turn("assistant", spans), tokenizer, mask, is_open=True)
    elif add_generation_prompt:
        out.append([tokenizer.im_start_id, *tokenizer.encode("assistant"), *tokenizer.encode("\n")], False)
    return out


def _write_turn(out: Rendered, turn: Turn, tokenizer: Tokenizer, mask: Mask, is_open: bool = False) -> None:
    newline = tokenizer.encode("\n")
    is_assistant = turn.role == "assistant"
    around = mask != "clean"
    out.append([tokenizer.im_start_id], around)
    out.append([*tokenizer.encode(turn.role), *newline], mask == "memo")
    _write_content(out, turn, tokenizer, mask)
    if not is_open:
        out.append([tokenizer.im_end_id], around or is_assistant)
        out.append(newline, around)


def _write_content(out: Rendered, turn: Turn, tokenizer: Tokenizer, mask: Mask) -> None:
    whole_turn = turn.role != "user" if mask == "memo" else turn.role == "assistant"
    for is_tag, group in groupby(turn.spans, key=lambda span: span.is_tag):
        spans = list(group)
        if not is_tag:
            ids = tokenizer.encode("".join(span.text for span in spans))
            written = _written_by_model(ids, spans, tokenizer)
            out.ids.extend(ids)
            out.loss_mask.extend(written if mask == "clean" else [whole_turn] * len(ids))
            continue
        for span in spans:
            known = tokenizer.special_tokens.get(span.text)
            ids = tokenizer.encode(span.text) if known is None else [known]
            out.append(ids, span.is_model if mask == "clean" else whole_turn)


def _written_by_model(ids: Sequence[int], spans: Sequence[Span], tokenizer: Tokenizer) -> list[bool]:
    """For each token whether the span in which it begins is the model's. Text is encoded whole, as models saw it."""
    if len({span.is_model for span in spans}) == 1:
        return [spans[0].is_model] * len(ids)
    texts = (unicodedata.normalize("NFC", span.text) for span in spans)
    ends = list(accumulate(len(text.encode(errors="replace")) for text in texts))
    starts = accumulate((len(tokenizer.token_bytes(token)) for token in ids), initial=0)
    last = len(spans) - 1
    return [spans[min(bisect_right(ends, start), last)].is_model for start, _ in zip(starts, ids, strict=False)]


@dataclass(frozen=True)
class Trimmed:
    """A conversation that fits the window, and how many of its oldest turns do not."""

    messages: list[Message]
    num_dropped: int

    @property
    def note(self) -> str:
        """What to tell the user; empty if nothing was dropped."""
        if not self.num_dropped:
            return ""
        note = "[{count} earlier turn(s) no longer fit the model's window and were left out]"
        return tr(note, count=self.num_dropped)


def trim_history(messages: Sequence[Message], tokenizer: Tokenizer, max_window_size: int = MAX_WINDOW_SIZE) -> Trimmed:
    """Keep the newest turns (a question and all that answers it) while system and history stay below the window.

    The question at hand is always kept and not counted, as in the released code; a caller who must leave room for it
    and for the answer passes a smaller window.
    """
    has_system = bool(messages) and messages[0].role == "system"
    system = messages[0] if has_system else Message("system", DEFAULT_SYSTEM)
    turns: list[list[Message]] = []
    for message in messages[has_system:]:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    used = _size(system, tokenizer) - 1  # no line end is counted behind the system turn
    kept = turns[-1:]
    for turn in reversed(turns[:-1]):
        used += sum(_size(message, tokenizer) for message in turn)
        if used >= max_window_size:
            break
        kept.insert(0, turn)
    head = [system] if has_system else []
    return Trimmed([*head, *(message for turn in kept for message in turn)], len(turns) - len(kept))


def _size(message: Message, tokenizer: Tokenizer) -> int:
    """Tokens of a turn with its <|im_start|>, <|im_end|> and the line end that joins it to the next."""
    texts = [message.role, "\n", message.text, *(call.name + call.arguments for call in message.tool_calls)]
    return 3 + sum(len(tokenizer.encode(text)) for text in texts)
