"""A conversation as token ids, for training and for answers alike. The only writer of control tokens.

A prompt is a list of messages, never a string. A model's own template (`templates/`) or, for Qwen v1 and what SFT makes
here, `chatml.py` turns it into spans: text, and the special tokens between. Only a span that the template wrote becomes
a special token. So no text of a user, a document or a tool can end its own turn.

Text between two special tokens is encoded as a whole, as it was when the model was trained: where the template's line
end meets one of the content, they are one token. Qwen v1 encodes role, line end and content by themselves.

The loss mask marks the ids that a model is trained to write:

    clean       the assistant's text and the token after it, without the tool results inside its turn
    memo        everything except the content of user turns
    reference   as in the released finetune.py: also every <|im_start|>, <|im_end|> and line end, in user turns too

The masks `memo` and `reference` are for ChatML alone.
"""

from __future__ import annotations

import unicodedata
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, groupby
from typing import Any, Literal, cast

from qianwen.chat.chatml import chatml_spans, with_system
from qianwen.chat.demonstrations import as_turns
from qianwen.chat.functions import FUNCTION_STYLES, FunctionFormat, function_format, goes_on, lay_out
from qianwen.chat.messages import FunctionSpec, Message, Span
from qianwen.chat.react_prompts import REACT_STYLES
from qianwen.chat.templates.choose import chat_template
from qianwen.chat.templates.template import ChatTemplate
from qianwen.runtime.errors import ConfigError, RequestError, excerpt
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

Mask = Literal["clean", "memo", "reference"]
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
FUNCTION_STYLE = "function_style"  # a name among the variables of a request


@dataclass
class Rendered:
    """Token ids of a conversation, and for each id whether a model is trained to write it."""

    ids: list[int] = field(default_factory=list)
    loss_mask: list[bool] = field(default_factory=list)
    is_thinking: bool = False  # whether the ids end where the model writes its thoughts

    def append(self, ids: Sequence[int], learn: Sequence[bool]) -> None:
        self.ids.extend(ids)
        self.loss_mask.extend(learn)


class ChatFormat:
    """How the model of a tokenizer is talked to: its template, how it writes calls, whether it thinks."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer, self.template = tokenizer, chat_template(tokenizer)

    @property
    def has_thoughts(self) -> bool:
        return self.template is not None and self.template.has_thoughts

    @property
    def end_ids(self) -> list[int]:
        """The token that ends an answer, if it is known."""
        end = IM_END if self.template is None else self.template.end_token
        return [self.tokenizer.special_tokens[end]] if end in self.tokenizer.special_tokens else []

    def functions(self, has_functions: bool = True, chosen: object = None) -> FunctionFormat:
        """How the model writes calls: as `chosen`, else as its template does; ReAct where that has no functions.

        RequestError for a style that does not exist, or that this model's template would have to write.
        """
        own = self._own_style(has_functions)
        if chosen is None or chosen == own:
            return own
        if chosen not in FUNCTION_STYLES:
            message = "function_style must be one of {styles}; got {value!r}"
            raise RequestError(
                tr(message, styles=", ".join(FUNCTION_STYLES), value=excerpt(chosen)), param=FUNCTION_STYLE
            )
        if chosen == "json":
            message = "function_style 'json' is written by the chat template of a model; this model has none that does"
            raise RequestError(tr(message), param=FUNCTION_STYLE)
        return cast(FunctionFormat, chosen)

    def _own_style(self, has_functions: bool) -> FunctionFormat:
        if self.template is None:
            return function_format(self.tokenizer)
        knows = self.template.writes_functions if has_functions else self.template.writes_calls
        return self.template.call_format if knows else "react"

    def thinking(self, thinking: bool | None, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The template's variables of a request.

        RequestError for one that the template does not know: it would have no effect.
        """
        known = frozenset() if self.template is None else self.template.variables
        given = {name: value for name, value in (variables or {}).items() if name != FUNCTION_STYLE}
        if unknown := [name for name in given if name not in known and name != "enable_thinking"]:
            message = "the chat template of this model has no variable {name!r}; it has: {known}"
            names = ", ".join(sorted(known)) or "-"
            raise RequestError(tr(message, name=unknown[0][:80], known=names), param="chat_template_kwargs")
        thinking = given.pop("enable_thinking", thinking)
        if thinking is None:
            return given
        if not isinstance(thinking, bool):
            message = "enable_thinking must be true or false; got {value!r}"
            raise RequestError(tr(message, value=thinking), param="chat_template_kwargs")
        if self.template is None or self.template.switch is None:
            if thinking != self.has_thoughts:
                always = tr("this model always thinks: its chat template cannot turn that off")
                never = tr("this model does not think: its chat template has no switch for it")
                raise RequestError(always if self.has_thoughts else never, param="enable_thinking")
            return given
        return given | {self.template.switch: thinking}


def render(
    messages: Sequence[Message],
    tokenizer: Tokenizer,
    *,
    functions: Sequence[FunctionSpec] = (),
    mask: Mask = "clean",
    add_generation_prompt: bool = False,
    thinking: bool | None = None,
    variables: Mapping[str, Any] | None = None,
) -> Rendered:
    """Render a conversation with the model's chat template.

    A template decides what stands there without a system message; an empty system message stays empty. With
    `add_generation_prompt` the ids end where the assistant writes next: in a new turn, or, in ReAct after a tool's
    result, in the turn that called the tool. `thinking` turns thoughts on and off; `variables` are other names that the
    template knows, and `function_style`, which chooses how functions and calls are written.
    """
    chosen = ChatFormat(tokenizer)
    given = chosen.thinking(thinking, variables)
    style = chosen.functions(bool(functions), (variables or {}).get(FUNCTION_STYLE))
    if chosen.template is None:
        spans = chatml_spans(messages, functions, tokenizer, add_generation_prompt=add_generation_prompt, style=style)
    else:
        spans = _template_spans(messages, functions, chosen.template, style, given, add_generation_prompt)
    out = Rendered(is_thinking=_ends_in_thoughts(spans))
    spans = list(_with_headers_apart(spans)) if mask == "memo" else spans
    flags = _flags(spans, mask)
    for is_tag, group in groupby(zip(spans, flags, strict=True), key=lambda pair: pair[0].is_tag):
        pairs = list(group)
        if not is_tag:
            ids = tokenizer.encode("".join(span.text for span, _ in pairs))
            out.append(ids, _flags_of_ids(ids, pairs, tokenizer))
            continue
        for span, learn in pairs:
            ids = [tokenizer.special_tokens[span.text]] if span.text else []
            out.append(ids, [learn] * len(ids))
    return out


def _template_spans(
    messages: Sequence[Message],
    functions: Sequence[FunctionSpec],
    template: ChatTemplate,
    style: FunctionFormat,
    variables: Mapping[str, Any],
    add_generation_prompt: bool,
) -> list[Span]:
    has_calls = any(message.tool_calls or message.role == "tool" for message in messages)
    knows = template.writes_functions if functions else template.writes_calls
    if (functions or has_calls) and not (knows and style == template.call_format):
        messages = messages if style in REACT_STYLES else with_system(messages)
        turns = lay_out(messages, functions, style, is_prompt=add_generation_prompt)
        # the model continues the turn that has the tool's result, so that turn has no end
        is_open = add_generation_prompt and goes_on(messages, style)
        spans = template.turn_spans(turns, variables=variables, prompt=add_generation_prompt, is_open=is_open)
        return [*spans, Span("\nThought:", is_model=True)] if is_open else spans
    messages = as_turns(messages)
    return template.spans(messages, functions, variables=variables, add_generation_prompt=add_generation_prompt)


def _ends_in_thoughts(spans: Sequence[Span]) -> bool:
    """Whether a prompt ends in an open <think>. In content the tag would be followed by the end of its turn."""
    return "".join(span.text for span in spans[-3:]).rstrip().endswith("<think>")


# ---- loss masks --------------------------------------------------------------------------------------------------


def _flags(spans: list[Span], mask: Mask) -> list[bool]:
    """For each span, whether it is learned."""
    if mask == "clean":
        return [span.is_model for span in spans]
    if not any(span.is_tag and span.text == IM_START for span in spans):
        message = "the mask {mask!r} needs a model with ChatML's turns (<|im_start|>); use the mask 'clean'"
        raise ConfigError(tr(message, mask=mask))
    return list(_reference(spans) if mask == "reference" else _memo(spans))


def _reference(spans: Sequence[Span]) -> Iterator[bool]:
    ends_turn = False
    for span in spans:
        is_marker = span.is_tag and span.text in (IM_START, IM_END)
        yield span.is_model or is_marker or (ends_turn and span.text == "\n")
        ends_turn = span.is_tag and span.text == IM_END


def _with_headers_apart(spans: Sequence[Span]) -> Iterator[Span]:
    """The spans with a cut after the line end that follows a role."""
    is_header = False
    for span in spans:
        role, newline, content = span.text.partition("\n")
        if is_header and not span.is_tag and newline:
            yield replace(span, text=role + newline)
            span, is_header = replace(span, text=content), False
        if span.text or span.is_tag:
            yield span
        is_header = is_header or (span.is_tag and span.text == IM_START)


def _memo(spans: Sequence[Span]) -> Iterator[bool]:
    header: str | None = None  # the text between <|im_start|> and the first line end, while it is read
    is_user = False
    for span in spans:
        if span.is_tag and span.text in (IM_START, IM_END):
            header, is_user = ("" if span.text == IM_START else None), False
        yield not is_user
        if header is not None and not (span.is_tag and span.text == IM_START):
            header += span.text
            if header.endswith("\n"):
                is_user, header = header == "user\n", None


def _flags_of_ids(ids: Sequence[int], pairs: Sequence[tuple[Span, bool]], tokenizer: Tokenizer) -> list[bool]:
    """For each token, the flag of the span in which it begins; a token may cross from one span into the next."""
    flags = [learn for _, learn in pairs]
    if len(set(flags)) == 1:
        return flags[:1] * len(ids)
    nfc = tokenizer.vocabulary.nfc
    texts = (unicodedata.normalize("NFC", span.text) if nfc else span.text for span, _ in pairs)
    ends = list(accumulate(len(text.encode(errors="replace")) for text in texts))
    starts = accumulate((len(tokenizer.token_bytes(token)) for token in ids), initial=0)
    last = len(flags) - 1
    return [flags[min(bisect_right(ends, start), last)] for start, _ in zip(starts, ids, strict=False)]
