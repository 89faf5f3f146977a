"""Function calling in three formats, written into the prompt and parsed from the streaming reply.

    react        Qwen v1: labelled lines in plain text (`react.py`); `react_…`: with the prompts of `react_prompts.py`
    tool_call    Qwen2.5 and later: functions as JSON in the system turn, calls as
                 <tool_call>{"name": …, "arguments": {…}}</tool_call>, results as <tool_response> in a user turn.
                 Between the tags, Qwen3-Coder writes XML (`xml_calls.py`); both are read
    json         Llama 3: calls are JSON alone. A `tool_call` model may do that too (`bare_calls.py`)

A vocabulary with a token for <tool_call> belongs to a model that was trained on `tool_call`. Where neither vocabulary
nor chat template tells, a request chooses the style by hand (`ChatFormat.functions` in `render.py`). The readers turn a
reply into `Delta`s while it streams. However the text is split, the result is the same text and the same calls.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import groupby
from typing import Any, Literal, get_args

from qianwen.chat.bare_calls import BareCallReader
from qianwen.chat.demonstrations import as_turns
from qianwen.chat.exact_json import Number, read_json, write_json
from qianwen.chat.messages import FunctionSpec, Message, Span, ToolCall, Turn
from qianwen.chat.model import Delta
from qianwen.chat.react import STOP, Field, Piece, ReActReader, react_turns
from qianwen.chat.react_prompts import REACT_STYLES
from qianwen.chat.xml_calls import is_xml_call, read_xml_call
from qianwen.tokenizer.tokenizer import Tokenizer

FunctionFormat = Literal["react", "react_tools", "react_langchain", "react_qwen_agent", "tool_call", "json"]
FUNCTION_STYLES: tuple[str, ...] = get_args(FunctionFormat)
OPEN, CLOSE = "<tool_call>", "</tool_call>"
_TOOLS_HEAD = (
    "\n\n# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>"
)
_TOOLS_TAIL = (
    Span(
        "\n</tools>\n\nFor each function call, return a json object with function name and arguments within ",
    ),
    Span(OPEN, is_tag=True),
    Span(CLOSE, is_tag=True),
    Span(" XML tags:\n"),
    Span(OPEN, is_tag=True),
    Span('\n{"name": <function-name>, "arguments": <args-json-object>}\n'),
    Span(CLOSE, is_tag=True),
)


def function_format(tokenizer: Tokenizer) -> FunctionFormat:
    """The format of a model without a chat template of its own, by its vocabulary."""
    return "tool_call" if OPEN in tokenizer.special_tokens else "react"


def function_stop(style: FunctionFormat) -> tuple[str, ...]:
    """The stop strings of a reply with functions, in addition to the end of the turn."""
    return STOP if style in REACT_STYLES else ()


def goes_on(messages: Sequence[Message], style: FunctionFormat) -> bool:
    """Whether the model continues the assistant's turn: in ReAct, that turn has the result of the tool."""
    return bool(messages) and messages[-1].role == "tool" and style == "react"


def lay_out(
    messages: Sequence[Message], functions: Sequence[FunctionSpec], style: FunctionFormat, *, is_prompt: bool = False
) -> list[Turn]:
    """Messages as turns. The first message is the system message. Without functions no text is changed.

    `is_prompt`: the model writes next.
    """
    has_calls = bool(functions) or any(message.tool_calls or message.role == "tool" for message in messages)
    if has_calls and style in REACT_STYLES:
        return react_turns(messages, functions, style, is_open=is_prompt and messages[-1].role == "tool")
    return _tool_call_turns(as_turns(messages), functions)


def _tool_call_turns(messages: Sequence[Message], functions: Sequence[FunctionSpec]) -> list[Turn]:
    turns = []
    for role, group in groupby(messages, key=lambda message: message.role):
        if role == "tool":  # results of parallel calls share one turn
            spans = [span for index, message in enumerate(group) for span in _response_spans(message.text, index)]
            turns.append(Turn("user", tuple(spans)))
        elif role == "assistant":
            turns += [Turn(role, tuple(_assistant_spans(message))) for message in group]
        else:
            turns += [Turn(role, (Span(message.text),)) for message in group]
    if functions:
        specs = "".join("\n" + _dumps(function.to_openai()) for function in functions)
        turns[0] = Turn("system", (*turns[0].spans, Span(_TOOLS_HEAD + specs), *_TOOLS_TAIL))
    return turns


def _response_spans(content: str, index: int) -> tuple[Span, ...]:
    return (
        Span("\n" if index else ""),
        Span("<tool_response>", is_tag=True),
        Span(f"\n{content}\n"),
        Span("</tool_response>", is_tag=True),
    )


def _assistant_spans(message: Message) -> list[Span]:
    text = message.text
    spans = [Span(text, is_model=True)]
    for call in message.tool_calls:
        body = f'{{"name": {_dumps(call.name)}, "arguments": {_compact(call.arguments)}}}'
        spans += [
            Span("\n" if text or len(spans) > 1 else "", is_model=True),
            Span(OPEN, is_model=True, is_tag=True),
            Span(f"\n{body}\n", is_model=True),
            Span(CLOSE, is_model=True, is_tag=True),
        ]
    return spans


def _dumps(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _compact(arguments: str) -> str:
    """The arguments in compact JSON; invalid JSON becomes one JSON string."""
    try:
        return write_json(read_json(arguments))
    except (ValueError, RecursionError):
        return _dumps(arguments)


class ToolCallReader:
    """Reads <tool_call> replies. A body that is not a valid call is returned as text, with its tags and blanks."""

    def __init__(self, functions: Sequence[FunctionSpec] = ()) -> None:
        self._schemas = {function.name: function.parameters for function in functions}
        self._buffer = ""
        self._in_call = False
        self._num_blanks = 0  # before the tag at the start of the buffer
        self._num_searched = 0  # characters of the buffer already searched for the closing tag
        self._has_called = False

    def feed(self, text: str) -> list[Delta]:
        """The deltas that are certain now. Trailing blanks are held back: around a call they are not content."""
        self._buffer += text
        deltas: list[Delta] = []
        while True:
            if not self._in_call:
                start = self._buffer.find(OPEN)
                if start < 0:
                    # the end of the buffer may be the first part of the tag, split by the stream
                    held = _overlap(self._buffer, OPEN)
                    return deltas + self._text(len(self._buffer[: len(self._buffer) - held].rstrip()))
                end_of_text = len(self._buffer[:start].rstrip())
                deltas += self._text(end_of_text)
                self._in_call, self._num_searched, self._num_blanks = True, 0, start - end_of_text
            end = self._close()
            if end is None:
                return deltas
            deltas += self._call(end, end - len(CLOSE))
            self._in_call = False

    def finish(self) -> list[Delta]:
        """The text that was held back. A last call without its closing tag is still a call."""
        if self._in_call:
            return self._call(len(self._buffer), len(self._buffer))
        is_blank = not self._buffer.strip()
        return [] if is_blank and self._has_called else self._text(len(self._buffer))

    def _text(self, length: int) -> list[Delta]:
        text, self._buffer = self._buffer[:length], self._buffer[length:]
        return [Delta(text=text)] if text else []

    def _call(self, end: int, body_end: int) -> list[Delta]:
        body = self._buffer[self._num_blanks + len(OPEN) : body_end]
        call = read_xml_call(body, self._schemas) if is_xml_call(body) else _read_call(body)
        if call is None:
            return self._text(end)
        self._buffer = self._buffer[end:]
        self._has_called = True
        return [Delta(tool_calls=(call,))]

    def _close(self) -> int | None:
        """End of the first closing tag outside JSON strings and the values of parameters.

        Only new text is searched first, so that a long call is not scanned again from its start at each piece.
        """
        searched, self._num_searched = self._num_searched, len(self._buffer)
        if self._buffer.find(CLOSE, max(searched - len(CLOSE), 0)) < 0:
            return None
        start = self._num_blanks + len(OPEN)
        pattern = _PARAMETER_OR_CLOSE if is_xml_call(self._buffer[start:]) else _STRING_OR_CLOSE
        for match in pattern.finditer(self._buffer, start):
            if match[0] == CLOSE:
                return match.end()
        return None


_STRING_OR_CLOSE = re.compile(r'"(?:[^"\\]|\\.)*(?:"|\\?\Z)|' + CLOSE, re.DOTALL)
_PARAMETER_OR_CLOSE = re.compile(r"<parameter=[^>\n]+>.*?(?:</parameter>|\Z)|" + CLOSE, re.DOTALL)


def _overlap(text: str, tag: str) -> int:
    """Length of the longest suffix of `text` that is a prefix of `tag`."""
    return next((size for size in range(len(tag) - 1, 0, -1) if text.endswith(tag[:size])), 0)


def _read_call(body: str) -> ToolCall | None:
    try:
        value = read_json(body)
        name = value.get("name") if isinstance(value, dict) else None
        if not isinstance(name, str) or isinstance(name, Number):
            return None
        arguments = value.get("arguments", value.get("parameters", {}))
        is_text = isinstance(arguments, str) and not isinstance(arguments, Number)
        return ToolCall(name, arguments if is_text else write_json(arguments))
    except (ValueError, RecursionError):
        return None


class ReActCallReader:
    """Reads ReAct replies as content and calls.

    A thought is content if a call follows it or the reply ends with it. A thought before a final answer is dropped.
    """

    def __init__(self, field: Field = "text") -> None:
        self._reader = ReActReader(field)
        self._field: Field = field
        self._texts: dict[Field, str] = {"thought": "", "action": "", "action_input": ""}

    def feed(self, text: str) -> list[Delta]:
        """The deltas that are certain now."""
        return [delta for piece in self._reader.feed(text) for delta in self._deltas(piece)]

    def finish(self) -> list[Delta]:
        """The text that was held back."""
        deltas = [delta for piece in self._reader.finish() for delta in self._deltas(piece)]
        deltas += self._close_field()
        rest = self._texts["thought"]
        if self._texts["action"]:
            rest += f"\nAction: {self._texts['action']}"
        return deltas + ([Delta(text=rest.lstrip())] if rest else [])

    def _deltas(self, piece: Piece) -> list[Delta]:
        if piece.text:
            if piece.field in self._texts:
                self._texts[piece.field] += piece.text
                return []
            return [Delta(text=piece.text)]
        deltas = self._close_field()
        self._field = piece.field
        if piece.field == "final":
            self._texts["thought"] = ""
        return deltas

    def _close_field(self) -> list[Delta]:
        """The call, if one is complete: the next field after its input begins, or the reply ends."""
        name = self._texts["action"].strip(" `\"'*.,:。，：()（）")
        if self._field != "action_input" or not name:
            return []
        thought, arguments = self._texts["thought"], self._texts["action_input"]
        self._texts = dict.fromkeys(self._texts, "")
        deltas = [Delta(text=thought)] if thought else []
        return [*deltas, Delta(tool_calls=(ToolCall(name, arguments),))]


class AnyCallReader:
    """Reads calls that are JSON alone, and, if the reply is not that, calls in tags."""

    def __init__(self, functions: Sequence[FunctionSpec]) -> None:
        self._bare, self._tagged = BareCallReader(functions), ToolCallReader(functions)

    def feed(self, text: str) -> list[Delta]:
        """The deltas that are certain now."""
        return [delta for passed in self._bare.feed(text) for delta in self._tagged.feed(passed.text)]

    def finish(self) -> list[Delta]:
        """The text that was held back."""
        deltas = []
        for delta in self._bare.finish():
            deltas += [delta] if delta.tool_calls else self._tagged.feed(delta.text)
        return deltas + self._tagged.finish()


CallReader = AnyCallReader | ReActCallReader


def call_reader(
    style: FunctionFormat, messages: Sequence[Message], functions: Sequence[FunctionSpec] = ()
) -> CallReader:
    """The reader for the reply to `messages`. Some ReAct prompts end in a thought, `react` after a tool's result."""
    if style not in REACT_STYLES:
        return AnyCallReader(functions)
    is_thinking = goes_on(messages, style) or bool(REACT_STYLES[style].prompt_end)
    return ReActCallReader("thought" if is_thinking else "text")
