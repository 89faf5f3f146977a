"""A model's own chat template: a conversation → the spans that the model saw in training.

A template is a program that its authors ran when they trained the model, so running it (`sandbox.py`) is the one way to
get the same text. What it does with a conversation is learned by rendering small ones: whether it writes functions and
calls, in which form it takes arguments, with which tokens the assistant's turn begins and ends. Templates of one family
differ in their line ends, their default system sentence and their defects, so no text of a template is compared.

    ChatML        <|im_start|>assistant\\n … <|im_end|>                             Qwen, SmolLM and many others
    Llama 3       <|start_header_id|>assistant<|end_header_id|>\\n\\n … <|eot_id|>
    DeepSeek R1   <｜Assistant｜> … <｜end▁of▁sentence｜>
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

from qianwen.chat.messages import FunctionSpec, Message, Span, Turn
from qianwen.chat.templates.marks import THINK_TAGS, Marks, texts_of
from qianwen.chat.templates.sandbox import CompiledTemplate
from qianwen.runtime.errors import RequestError
from qianwen.tokenizer.template_files import TemplateSource

FAMILIES = {
    "<|im_start|>assistant\n": "ChatML",
    "<|start_header_id|>assistant<|end_header_id|>\n\n": "Llama 3",
    "<｜Assistant｜>": "DeepSeek R1",
}
SWITCHES = ("enable_thinking", "thinking")  # variables that turn the thoughts of a model on and off
OWN_NAMES = frozenset(
    ("messages", "tools", "documents", "add_generation_prompt", "range", "dict", "namespace", "raise_exception")
    + ("strftime_now", "loop", "bos_token", "eos_token", "unk_token", "pad_token")
)
EMPTY_THOUGHT = re.compile(r"<think>\s*</think>\s*")
END = "qzcontinuesqz"  # marks the end of an answer that the model is to continue; alphanumeric, so it is not replaced

# Words of the small conversations; a template cannot expect them.
_ASKED, _ANSWERED, _ASKED_AGAIN, _NAME, _VALUE = "qzasked", "qzanswered", "qzagain", "qzname", "qzvalue"
_PARAMETERS = {"type": "object", "properties": {_NAME: {"type": "string", "description": "d"}}, "required": []}
_TOOL = {"type": "function", "function": {"name": _NAME, "description": "d", "parameters": _PARAMETERS}}
_QUESTION = {"role": "user", "content": _ASKED}


class _Forms(NamedTuple):
    """In which form a template takes the arguments of a call and the content of a message that has none."""

    arguments: Literal["object", "text"] = "object"
    empty: Literal["missing", "null", "text"] = "text"
    has_calls: bool = False  # whether it writes calls at all


class ChatTemplate:
    """The template of one vocabulary with these `special` tokens. `render` is the only method that needs a request."""

    def __init__(self, source: TemplateSource, special: Sequence[str], control: Sequence[str]) -> None:
        self.source, self._special, self._control = source, tuple(special), frozenset(control)
        longest_first = sorted(self._special, key=len, reverse=True)
        self._tags = re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")

    # ---- what the template does -------------------------------------------------------------------------------

    @cached_property
    def _default(self) -> CompiledTemplate:
        return CompiledTemplate(self.source.text)

    @cached_property
    def _tool_use(self) -> CompiledTemplate:
        return self._default if self.source.tool_use is None else CompiledTemplate(self.source.tool_use)

    @property
    def variables(self) -> frozenset[str]:
        """Names that a request may set (`chat_template_kwargs`)."""
        return (self._default.variables | self._tool_use.variables) - OWN_NAMES

    @cached_property
    def switch(self) -> str | None:
        """The variable that turns thoughts on and off; None if there is none."""
        return next((name for name in SWITCHES if name in self.variables), None)

    @property
    def has_thoughts(self) -> bool:
        """Whether the model writes its thoughts before an answer."""
        return self.switch is not None or THINK_TAGS[0] in self.source.text or THINK_TAGS[1] in self.source.text

    @cached_property
    def writes_functions(self) -> bool:
        """Whether the functions of a request are in the prompt."""
        text = self._try([_QUESTION], tools=[_TOOL])
        return text is not None and _NAME in text

    @property
    def writes_calls(self) -> bool:
        """Whether calls in the history are in the prompt."""
        return self._forms.has_calls

    @property
    def call_format(self) -> Literal["tool_call", "json"]:
        """How the model writes a call: in tags, or as JSON alone."""
        return "tool_call" if "<tool_call>" in self.source.text + (self.source.tool_use or "") else "json"

    @cached_property
    def _forms(self) -> _Forms:
        for arguments in ("object", "text"):
            for empty in ("missing", "null", "text"):
                forms = _Forms(arguments, empty, has_calls=True)
                value = {_NAME: _VALUE}
                function = {"name": _NAME, "arguments": value if arguments == "object" else json.dumps(value)}
                call = {"id": "call00001", "type": "function", "function": function}
                asks = {"role": "assistant", **_content(None, forms), "tool_calls": [call]}
                result = {"role": "tool", "content": _ANSWERED, "name": _NAME, "tool_call_id": "call00001"}
                called = [_QUESTION, asks, result]
                text = self._try(called, tools=[_TOOL]) or self._try(called)
                if text is not None and _VALUE in text and rf"\"{_VALUE}" not in text:
                    return forms
        return _Forms()

    @cached_property
    def _turn(self) -> tuple[str, str]:
        """The text before an assistant's answer in a history, and the token after it; empty if there is none."""
        before = self._try([_QUESTION]) or ""
        answer = {"role": "assistant", "content": _ANSWERED}
        whole = self._try([_QUESTION, answer, {"role": "user", "content": _ASKED_AGAIN}]) or ""
        head, _, tail = whole.partition(_ANSWERED)
        header = head.removeprefix(before) if before and head.startswith(before) else ""
        match = self._tags.match(tail)
        return header if self._tags.match(header) else "", match[0] if match else ""

    @property
    def end_token(self) -> str:
        """The token that ends the assistant's turn; empty if it is not known."""
        return self._turn[1]

    @property
    def family(self) -> str | None:
        """The known family whose turns these are. None too for a template that joins control tokens from parts."""
        literal = self._tags.sub("", self.source.text + (self.source.tool_use or ""))
        parts = {part for token in self._control for part in (token[:2], token[-2:])} - {"<s", "</", "s>"}
        joins = any(part in literal for part in parts if not part.isalnum() and "|" in part.replace("｜", "|"))
        return None if joins else FAMILIES.get(self._turn[0])

    # ---- conversations ----------------------------------------------------------------------------------------

    def spans(
        self,
        messages: Sequence[Message],
        functions: Sequence[FunctionSpec] = (),
        *,
        variables: Mapping[str, Any] | None = None,
        add_generation_prompt: bool = False,
    ) -> list[Span]:
        """The text of a conversation, cut at its special tokens and where the model's own text begins and ends."""
        entries = [_entry(message, self._forms) for message in messages]
        tools = [function.to_openai() for function in functions]
        marks = self._marks(entries, tools, variables)
        text = self._render(entries, tools, marks, variables, add_generation_prompt)
        return list(self._cut(text, self._answers(text), marks))

    def turn_spans(
        self, turns: Sequence[Turn], *, variables: Mapping[str, Any] | None = None, prompt: bool = False, is_open: bool
    ) -> list[Span]:
        """The same for turns whose functions are plain text. With `is_open` the last turn has no end: it goes on."""
        entries = [{"role": turn.role, "content": "".join(span.text for span in turn.spans)} for turn in turns]
        marks = self._marks(entries, [], variables)
        if is_open:
            entries[-1]["content"] += END
        text = self._render(entries, [], marks, variables, prompt and not is_open)
        text = text[: text.rindex(END)] if is_open else text
        answers = self._answers(text)
        written = [turn for turn in turns if turn.role == "assistant"]
        for turn, (start, end) in zip(written, list(answers), strict=False):
            for span in turn.spans:
                found = text.find(marks.mark(span.text), start, end)
                start = max(start, found + len(span.text))
                if found >= 0 and not span.is_model:
                    answers = [piece for answer in answers for piece in _without(answer, (found, start))]
        return list(self._cut(text, answers, marks))

    def _marks(self, entries: Any, tools: Any, variables: Any) -> Marks:
        texts = (*texts_of(entries), *texts_of(tools), *texts_of(variables or {}), self.source.text)
        return Marks(self._special, (*texts, self.source.tool_use or ""))

    def _render(self, entries: Any, tools: Any, marks: Marks, variables: Any, add_generation_prompt: bool) -> str:
        thoughts = [tag for tag in THINK_TAGS if tag not in self._control]  # an answer in the history may have them
        marked = []
        for entry in entries:
            own = {name: marks.mark(value) for name, value in entry.items() if name != "content"}
            but = thoughts if entry["role"] == "assistant" else ()
            marked.append(own | {"content": marks.mark(entry["content"], but)} if "content" in entry else own)
        return self._run(marked, marks.mark(tools), marks.mark(variables or {}), add_generation_prompt)

    def _run(self, messages: Any, tools: Any, variables: Mapping[str, Any], add_generation_prompt: bool) -> str:
        compiled = self._tool_use if tools else self._default
        given = {"messages": messages, "tools": tools or None, "documents": None}
        return compiled.render(
            {**dict(self.source.tokens), **variables, **given, "add_generation_prompt": add_generation_prompt}
        )

    def _try(self, messages: list[dict[str, Any]], tools: list[dict[str, Any]] | None = None) -> str | None:
        """The text of a small conversation; None if the template fails with it."""
        try:
            return self._run(messages, tools, {}, False)
        except RequestError as error:
            if error.code == "timeout":  # it would be so for every other one
                raise
            return None

    def _answers(self, text: str) -> list[tuple[int, int]]:
        """Where the model's own texts begin and end, each with the token that ends it."""
        header, end = self._turn
        answers, start = [], 0
        while header and end and (start := text.find(header, start)) >= 0:
            start += len(header)
            if empty := EMPTY_THOUGHT.match(text, start):  # the template writes it where there are no thoughts
                start = empty.end()
            stop = text.find(end, start)
            stop = len(text) if stop < 0 else stop + len(end)
            answers.append((start, stop))
            start = stop
        return answers

    def _cut(self, text: str, answers: Sequence[tuple[int, int]], marks: Marks) -> Iterator[Span]:
        edges = sorted({edge for answer in answers for edge in answer})
        begin = 0
        for match in [*self._tags.finditer(text), None]:
            end = len(text) if match is None else match.start()
            for stop in [edge for edge in edges if begin < edge < end] + [end]:
                if begin < stop:
                    yield Span(marks.restore(text[begin:stop]), _is_in(begin, answers))
                begin = stop
            if match is not None:
                yield Span(match[0], _is_in(match.start(), answers), is_tag=True)
                begin = match.end()


def _is_in(place: int, answers: Sequence[tuple[int, int]]) -> bool:
    return any(start <= place < end for start, end in answers)


def _without(whole: tuple[int, int], part: tuple[int, int]) -> list[tuple[int, int]]:
    """What is left of a range after a part of it is taken out."""
    pieces = [(whole[0], min(whole[1], part[0])), (max(whole[0], part[1]), whole[1])]
    return [(start, end) for start, end in pieces if start < end]


def _entry(message: Message, forms: _Forms) -> dict[str, Any]:
    """A message as templates expect it: OpenAI's fields, without those that are empty."""
    entry: dict[str, Any] = {"role": message.role, **_content(message, forms)}
    if message.reasoning_content:
        entry |= {"reasoning_content": message.reasoning_content, "thinking": message.reasoning_content}
    if message.tool_calls:
        entry["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": _arguments(call, forms)}}
            for call in message.tool_calls
        ]
    fields = {"name": message.name, "tool_call_id": message.tool_call_id}
    return entry | {name: value for name, value in fields.items() if value is not None}


def _content(message: Message | None, forms: _Forms) -> dict[str, Any]:
    if message is not None and message.content is not None:
        return {"content": message.text}
    return {"missing": {}, "null": {"content": None}, "text": {"content": ""}}[forms.empty]


def _arguments(call: Any, forms: _Forms) -> Any:
    """The arguments in the form that the template takes. What is not valid JSON stays a text."""
    if forms.arguments == "text":
        return call.arguments
    try:
        value = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return call.arguments
    is_finite = all(math.isfinite(number) for number in _floats(value))
    return value if is_finite else call.arguments


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    elif isinstance(value, (list, dict)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _floats(item)
