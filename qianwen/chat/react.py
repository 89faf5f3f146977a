"""ReAct, the tool-use format of Qwen v1 (Qwen report, section 3.4; Yao et al. 2022).

A user turn lists the tools. The model answers in labelled lines and stops before the line for a tool's result:

    Thought: I need the weather.
    Action: weather
    Action Input: {"city": "杭州"}
    Observation: …the result, written by the code that ran the tool, in the same assistant turn…
    Thought: I now know the final answer.
    Final Answer: Rain.

`react_turns` writes a conversation in this format, with one of the prompts in `react_prompts.py`; `ReActReader` parses
a reply while it streams. All of it is plain text: content is encoded by the tokenizer's `encode`, which never returns a
control token.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from qianwen.chat.demonstrations import as_turns, split_examples
from qianwen.chat.messages import FunctionSpec, Message, Span, ToolCall, Turn
from qianwen.chat.react_prompts import REACT_STYLES, ReActStyle, react_prompt
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

FENCE = "```"
STOP = ("\nObservation:", "\nObservation：")  # the model must not write the result itself


def react_turns(
    messages: Sequence[Message], functions: Sequence[FunctionSpec], style: str = "react", *, is_open: bool = False
) -> list[Turn]:
    """The turns of a conversation. Tool results and the text after them continue one assistant turn.

    The instruction is in the newest question; in the style `react`, as in training, in the last user turn that already
    has an answer, if there is one. `is_open`: the last message is a tool's result, and the model goes on. Then some
    styles have calls and results in the user's turn.
    """
    chosen = REACT_STYLES[style]
    examples, messages = split_examples(messages) if functions else ([], as_turns(messages))
    turns = _plain_turns(messages, bool(functions), chosen)
    if not functions:
        return turns
    index = _place_of_instruction(turns, chosen)
    solved = [_example_text(example, chosen) for example in examples]
    prompt = react_prompt(functions, turns[index].spans[0].text, style, solved)
    if chosen.in_question and is_open:
        return [*turns[:-2], Turn("user", (Span(_with_results(prompt, turns.pop(), chosen)),))]
    turns[index] = Turn("user", (Span(prompt),))
    if chosen.prompt_end and index + 1 < len(turns):  # the prompt has the first label
        first, *rest = turns[index + 1].spans
        first = replace(first, text=first.text.removeprefix("Thought:").removeprefix(" "))
        turns[index + 1] = replace(turns[index + 1], spans=(first, *rest))
    return turns


def _plain_turns(messages: Sequence[Message], has_functions: bool, style: ReActStyle) -> list[Turn]:
    """The turns without an instruction."""
    turns: list[Turn] = []
    pending: list[ToolCall] = []  # parallel calls of one message; each is written just before its result
    for message in messages:
        text = message.text.lstrip("\n").rstrip()
        if message.role == "tool":
            if not turns or turns[-1].role != "assistant":
                raise RequestError(tr("A tool message must come after the assistant message that called the tool."))
            spans = [Span(f"\nObservation: {text}")]
            if pending:
                spans.append(Span(f"\n{_call_text('', pending.pop(0), style)}", is_model=True))
            turns[-1] = replace(turns[-1], spans=(*turns[-1].spans, *spans))
        elif message.role == "assistant":
            pending = list(message.tool_calls[1:])
            _append_assistant(turns, _assistant_text(text, message.tool_calls, has_functions, style))
        else:
            turns.append(Turn(message.role, (Span(text),)))
    return turns


def _call_text(thought: str, call: ToolCall, style: ReActStyle) -> str:
    if not thought.startswith("Thought:"):
        thought = f"Thought: {thought}"
    newline = "\n" if style.code_on_new_line and call.arguments.startswith("```") else ""
    return f"{thought}\nAction: {call.name}\nAction Input: {newline}{call.arguments}"


def _assistant_text(text: str, calls: Sequence[ToolCall], has_functions: bool, style: ReActStyle) -> str:
    if calls:
        return _call_text(text, calls[0], style)
    return f"Thought: I now know the final answer.\nFinal Answer: {text}" if has_functions else text


def _append_assistant(turns: list[Turn], text: str) -> None:
    if turns and turns[-1].role == "assistant":
        turns[-1] = replace(turns[-1], spans=(*turns[-1].spans, Span("\n" + text, is_model=True)))
    else:
        turns.append(Turn("assistant", (Span(text, is_model=True),)))


def _place_of_instruction(turns: Sequence[Turn], style: ReActStyle) -> int:
    users = [index for index, turn in enumerate(turns) if turn.role == "user"]
    if not users:
        raise RequestError(tr("The request has functions but no user message; add a user message."))
    is_earlier = not style.in_question and turns[-1].role == "user" and len(users) > 1
    return users[-2] if is_earlier else users[-1]


def _example_text(example: Sequence[Message], style: ReActStyle) -> str:
    question, answer = _plain_turns(example, True, style)
    return f"Question: {_text(question)}\n{_text(answer)}"


def _with_results(prompt: str, run: Turn, style: ReActStyle) -> str:
    """The user's turn with the calls and results so far, up to where the model goes on."""
    text = _text(run)
    if style.prompt_end:
        return prompt + text.removeprefix("Thought:").removeprefix(" ") + style.prompt_end
    return prompt + style.before_reply + text


def _text(turn: Turn) -> str:
    return "".join(span.text for span in turn.spans)


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
    In an input that begins with a fence, nothing is a label until that fence is closed: it is a line of code.
    """

    def __init__(self, field: Field = "text") -> None:
        """`field` is the field in which the reply begins: "thought" if the prompt ends in "Thought:"."""
        self._field: Field = field
        self._buffer = "\n"  # so that a label at the very start of the reply is at the start of a line
        self._is_blank = True  # this field has only blanks so far
        self._begun = ""  # the field so far, if it is an input

    def feed(self, text: str) -> list[Piece]:
        """The pieces that no later text can change."""
        self._buffer += text
        pieces = []
        while self._field not in _LAST and (match := self._label()):
            pieces += self._pieces(self._buffer[: match.start()].rstrip())
            self._begun = ""
            self._buffer = self._buffer[match.end() :]
            self._field, self._is_blank = _FIELDS[match[1]], True
            pieces.append(Piece(self._field, ""))
        ready = self._buffer[: len(self._buffer) - self._held_len()].rstrip()
        self._buffer = self._buffer[len(ready) :]
        return pieces + self._pieces(ready)

    def finish(self) -> list[Piece]:
        """The text that was held back because it could be the start of a label."""
        return self._pieces(self._buffer.rstrip())

    def _label(self) -> re.Match[str] | None:
        """The first label in the buffer that is not in code."""
        return next((each for each in _MARKER.finditer(self._buffer) if not self._is_code(each.start())), None)

    def _is_code(self, end: int) -> bool:
        """Whether the input up to `end` of the buffer is an open fence."""
        text = (self._begun + self._buffer[:end]).lstrip() if self._field == "action_input" else ""
        return text.startswith(FENCE) and text.count(FENCE) % 2 == 1

    def _pieces(self, text: str) -> list[Piece]:
        text = text.lstrip() if self._is_blank else text
        if not text or self._field == "observation":
            return []
        self._is_blank = False
        self._begun += text if self._field == "action_input" else ""
        return [Piece(self._field, text)]

    def _held_len(self) -> int:
        """Length of the end of the buffer that may be the start of a label."""
        start = self._buffer.rfind("\n")
        if start < 0 or self._field in _LAST:
            return 0
        line = self._buffer[start + 1 :].lstrip(" \t")
        may_be_label = any(label.startswith(line) or line.rstrip(" \t") == label for label in _FIELDS)
        return len(self._buffer) - start if may_be_label else 0
