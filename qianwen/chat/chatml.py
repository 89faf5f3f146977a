r"""ChatML: a conversation as token ids (Qwen report, section 3.1.1). The only writer of control tokens.

    <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
    <|im_start|>user\n你好<|im_end|>\n
    <|im_start|>assistant\n

A prompt is a list of messages, never a string. Only this module places control ids. Role and content are encoded
separately by the tokenizer's `encode`, which never returns a control id. So no text of a user, a document or a tool can
end its own turn.

The loss mask marks the ids that a model is trained to write:

    clean       the assistant's text and the <|im_end|> after it, without the tool results inside its turn
    memo        everything except the content of user turns
    reference   as in the released finetune.py: also every <|im_start|>, <|im_end|> and line end, in user turns too
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
MAX_WINDOW_SIZE = 6144  # tokens of system prompt and history that the released chat models keep


@dataclass
class Rendered:
    """Token ids of a conversation, and for each id whether a model is trained to write it."""

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
    """Render a conversation in ChatML.

    Without a system message the default one is added; an empty system message stays empty. `style` is the function
    format; by default it is the one that the vocabulary supports. With `add_generation_prompt` the ids end where the
    assistant writes next: in a new turn, or, in ReAct after a tool's result, in the turn that called the tool.
    """
    style = style or function_format(tokenizer)
    if not messages or messages[0].role != "system":
        messages = [Message("system", DEFAULT_SYSTEM), *messages]
    turns = lay_out(messages, functions, style)
    # In ReAct the model continues the turn that holds the tool's result, so that turn gets no <|im_end|>.
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
    learn_markers = mask != "clean"
    out.append([tokenizer.im_start_id], learn_markers)
    out.append([*tokenizer.encode(turn.role), *newline], mask == "memo")
    _write_content(out, turn, tokenizer, mask)
    if not is_open:
        out.append([tokenizer.im_end_id], learn_markers or is_assistant)
        out.append(newline, learn_markers)


def _write_content(out: Rendered, turn: Turn, tokenizer: Tokenizer, mask: Mask) -> None:
    learn_turn = turn.role != "user" if mask == "memo" else turn.role == "assistant"
    for is_tag, group in groupby(turn.spans, key=lambda span: span.is_tag):
        spans = list(group)
        if not is_tag:
            ids = tokenizer.encode("".join(span.text for span in spans))
            is_model = _written_by_model(ids, spans, tokenizer)
            out.ids.extend(ids)
            out.loss_mask.extend(is_model if mask == "clean" else [learn_turn] * len(ids))
            continue
        for span in spans:
            tag_id = tokenizer.special_tokens.get(span.text)
            ids = tokenizer.encode(span.text) if tag_id is None else [tag_id]
            out.append(ids, span.is_model if mask == "clean" else learn_turn)


def _written_by_model(ids: Sequence[int], spans: Sequence[Span], tokenizer: Tokenizer) -> list[bool]:
    """For each token, whether the model wrote the span in which the token begins.

    The spans are encoded together, because the released models were trained on text encoded this way; a token may
    therefore cross from one span into the next.
    """
    if len({span.is_model for span in spans}) == 1:
        return [spans[0].is_model] * len(ids)
    texts = (unicodedata.normalize("NFC", span.text) for span in spans)
    ends = list(accumulate(len(text.encode(errors="replace")) for text in texts))
    starts = accumulate((len(tokenizer.token_bytes(token)) for token in ids), initial=0)
    last = len(spans) - 1
    return [spans[min(bisect_right(ends, start), last)].is_model for start, _ in zip(starts, ids, strict=False)]


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
