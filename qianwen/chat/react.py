"""ReAct, the tool-use format of Qwen v1 (Qwen report, section 3.4; Yao et al. 2022).

A user turn lists the tools. The model answers in labelled lines and stops before the line for a tool's result:

    Thought: I need the weather.
    Action: weather
    Action Input: {"city": "杭州"}
    Observation: …the result, written by the code that ran the tool, in the same assistant turn…
    Thought: I now know the final answer.
    Final Answer: Rain.

`react_turns` writes a conversation in this format; `ReActReader` parses a reply while it streams. All of it is plain
text: content is encoded by the tokenizer's `encode`, which never returns a control token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qianwen.chat.messages import FunctionSpec, Message, Span, ToolCall, Turn
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

INSTRUCTION = """Answer the following questions as best you can. You have access to the following APIs:

{tools_text}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{tools_name_text}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!"""
TOOL_LINE = (
    "{name}: Call this tool to interact with the {human} API. What is the {human} API useful for? "
    "{description} Parameters: {parameters}"
)
ARGS_SENTENCE = {
    None: "",
    "json": " Format the arguments as a JSON object.",
    "code": " Enclose the code within triple backticks (`) at the beginning and end of the code.",
}
STOP = ("\nObservation:", "\nObservation：")  # the model must not write the result itself


def react_instruction(functions: Sequence[FunctionSpec]) -> str:
    """The list of tools and the description of the format, word for word as the v1 chat models were trained on it."""
    lines = [
        TOOL_LINE.format(
            name=function.name,
            human=function.name_for_human or function.name,
            description=function.description,
            parameters=json.dumps(function.parameters, ensure_ascii=False),
        )
        + ARGS_SENTENCE[function.args_format]
        for function in functions
    ]
    names = ", ".join(function.name for function in functions)
    return INSTRUCTION.format(tools_text="\n\n".join(lines), tools_name_text=names)


def react_prompt(functions: Sequence[FunctionSpec], query: str) -> str:
    """The user turn for `query`, with the list of tools before it."""
    return f"{react_instruction(functions)}\n\nQuestion: {query}"


def react_turns(messages: Sequence[Message], functions: Sequence[FunctionSpec]) -> list[Turn]:
    """The turns of a conversation. Tool results and the text after them continue one assistant turn.

    The instruction is in the last user turn that already has an answer, else in the newest question, as in training.
    """
    turns: list[Turn] = []
    pending: list[ToolCall] = []  # parallel calls of one message; each is written just before its result
    for message in messages:
        text = message.text.lstrip("\n").rstrip()
        if message.role == "tool":
            if not turns or turns[-1].role != "assistant":
                raise RequestError(tr("A tool message must come after the assistant message that called the tool."))
            spans = [Span(f"\nObservation: {text}")]
            if pending:
                spans.append(Span(f"\n{_call_text('', pending.pop(0))}", is_model=True))
            turns[-1] = replace(turns[-1], spans=(*turns[-1].spans, *spans))
        elif message.role == "assistant":
            pending = list(message.tool_calls[1:])
            _append_assistant(turns, _assistant_text(text, message.tool_calls, bool(functions)))
        else:
            turns.append(Turn(message.role, (Span(text),)))
    if functions:
        _insert_instruction(turns, functions)
    return turns


def _call_text(thought: str, call: ToolCall) -> str:
    if not thought.startswith("Thought:"):
        thought = f"Thought: {thought}"
    return f"{thought}\nAction: {call.name}\nAction Input: {call.arguments}"


def _assistant_text(text: str, calls: Sequence[ToolCall], has_functions: bool) -> str:
    if calls:
        return _call_text(text, calls[0])
    return f"Thought: I now know the final answer.\nFinal Answer: {text}" if has_functions else text


def _append_assistant(turns: list[Turn], text: str) -> None:
    if turns and turns[-1].role == "assistant":
        turns[-1] = replace(turns[-1], spans=(*turns[-1].spans, Span("\n" + text, is_model=True)))
    else:
        turns.append(Turn("assistant", (Span(text, is_model=True),)))


def _insert_instruction(turns: list[Turn], functions: Sequence[FunctionSpec]) -> None:
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    if not users:
        raise RequestError(tr("The request has functions but no user message; add a user message."))
    index = users[-2] if turns[-1].role == "user" and len(users) > 1 else users[-1]
    turns[index] = Turn("user", (Span(react_prompt(functions, turns[index].spans[0].text)),))


Field = Literal["text", "thought", "action", "action_input", "observation", "final"]
_FIELDS: dict[str, Field] = {
    "Thought": "thought",
    "Action Input": "action_input",
    "Action": "action",
    "Observation": "observation",
    "Final Answer": "final",
}
_LAST: frozenset[Field] = frozenset(("final", "observation"))  # labels after these are plain text
_MARKER = re.compile(r"\n[ \t]*(" + "|".join(_FIELDS) + r")[ \t]*[:：]")


@dataclass(frozen=True)
class Piece:
    """Text of one field of a reply; a piece without text marks the start of the field."""

    field: Field
    text: str


class ReActReader:
    """Reads a reply as it streams. However the text is split, the fields are the same, without the blanks around them.

    A label is at the start of a line and ends in ":" or "：". Text before the first label is the field "text". All text
    after "Final Answer:" is the answer. Text after "Observation:" is dropped, because the model made that result up.
    """

    def __init__(self, field: Field = "text") -> None:
        """`field` is the field in which the reply begins: "thought" if the prompt ends in "Thought:"."""
        self._field: Field = field
        self._buffer = "\n"  # so that a label at the very start of the reply is at the start of a line
        self._is_blank = True  # this field has only blanks so far

    def feed(self, text: str) -> list[Piece]:
        """The pieces that no later text can change."""
        self._buffer += text
        pieces = []
        while self._field not in _LAST and (match := _MARKER.search(self._buffer)):
            pieces += self._pieces(self._buffer[: match.start()].rstrip())
            self._buffer = self._buffer[match.end() :]
            self._field, self._is_blank = _FIELDS[match[1]], True
            pieces.append(Piece(self._field, ""))
        ready = self._buffer[: len(self._buffer) - self._held_len()].rstrip()
        self._buffer = self._buffer[len(ready) :]
        return pieces + self._pieces(ready)

    def finish(self) -> list[Piece]:
        """The text that was held back because it could be the start of a label."""
        return self._pieces(self._buffer.rstrip())

    def _pieces(self, text: str) -> list[Piece]:
        text = text.lstrip() if self._is_blank else text
        if not text or self._field == "observation":
            return []
        self._is_blank = False
        return [Piece(self._field, text)]

    def _held_len(self) -> int:
        """Length of the end of the buffer that may be the start of a label."""
        start = self._buffer.rfind("\n")
        if start < 0 or self._field in _LAST:
            return 0
        line = self._buffer[start + 1 :].lstrip(" \t")
        may_be_label = any(label.startswith(line) or line.rstrip(" \t") == label for label in _FIELDS)
        return len(self._buffer) - start if may_be_label else 0
