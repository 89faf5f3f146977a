r"""ChatML as Qwen v1 had it (Qwen report, section 3.1.1), and as SFT here writes it: a conversation as spans.

    <|im_start|>system\nYou are a helpful assistant.<|im_end|>\n
    <|im_start|>user\n你好<|im_end|>\n
    <|im_start|>assistant\n

Qwen v1 encodes role, line end and content by themselves. In a folder that SFT wrote, other programs run the template
`templates/chatml.jinja` and encode the text of a turn as a whole; so do we, in training and afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from qianwen.chat.functions import FunctionFormat, function_format, goes_on, lay_out
from qianwen.chat.messages import FunctionSpec, Message, Span, Turn
from qianwen.chat.templates.marks import THINK_TAGS
from qianwen.tokenizer.template_files import QWEN_V1
from qianwen.tokenizer.tokenizer import Tokenizer

DEFAULT_SYSTEM = "You are a helpful assistant."
IM_START, IM_END = Span("<|im_start|>", is_tag=True), Span("<|im_end|>", is_tag=True)
APART = Span("", is_tag=True)  # between two texts that are encoded by themselves
NEWLINE = Span("\n")


def chatml_spans(
    messages: Sequence[Message],
    functions: Sequence[FunctionSpec],
    tokenizer: Tokenizer,
    *,
    add_generation_prompt: bool = False,
    style: FunctionFormat | None = None,
) -> list[Span]:
    """The spans of a conversation, with calls in `style`, or in the format that the vocabulary supports.

    Without a system message the default one is added; an empty system message stays empty.
    """
    style = style or function_format(tokenizer)
    messages = with_system(messages)
    turns = lay_out(messages, functions, style, is_prompt=add_generation_prompt)
    between = (APART,) if tokenizer.template == QWEN_V1 else ()
    # In ReAct the model continues the turn that holds the tool's result, so that turn gets no <|im_end|>.
    is_open = add_generation_prompt and goes_on(messages, style)
    spans = [span for turn in (turns[:-1] if is_open else turns) for span in (*_turn(turn, between), *_end(turn))]
    if is_open:
        thought = Span("\nThought:", is_model=True)
        spans += _turn(Turn("assistant", (*turns[-1].spans, thought)), between)
    elif add_generation_prompt:
        spans += [IM_START, Span("assistant"), *between, NEWLINE]
    return [part for span in spans for part in _as_tokens(span, tokenizer)]


def with_system(messages: Sequence[Message]) -> Sequence[Message]:
    """The conversation with the default system message, if it has none."""
    has_system = bool(messages) and messages[0].role == "system"
    return messages if has_system else [Message("system", DEFAULT_SYSTEM), *messages]


def _turn(turn: Turn, between: tuple[Span, ...]) -> Iterator[Span]:
    yield from (IM_START, Span(turn.role), *between, NEWLINE, *between, *turn.spans)


def _end(turn: Turn) -> Iterator[Span]:
    yield from (Span(IM_END.text, is_model=turn.role == "assistant", is_tag=True), NEWLINE)


def _as_tokens(span: Span, tokenizer: Tokenizer) -> Iterator[Span]:
    """A tag that the vocabulary does not have is text. In the model's own text the tags around thoughts are tokens."""
    special, is_v1 = tokenizer.special_tokens, tokenizer.template == QWEN_V1
    if span.is_tag:
        yield span if not span.text or span.text in special else replace(span, is_tag=False)
        return
    tags = [tag for tag in THINK_TAGS if tag in special and tag not in tokenizer.vocabulary.control_tokens]
    if not (span.is_model and tags) or is_v1:
        yield span
        return
    for piece in re.split("(" + "|".join(map(re.escape, tags)) + ")", span.text):
        if piece:
            yield replace(span, text=piece, is_tag=piece in tags)
