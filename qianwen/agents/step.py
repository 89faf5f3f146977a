"""A run of an agent as a list of steps: what was given, thought, called, observed and answered.

    Given("What is 17 * 23?")
    Thought("I compute it.")   Call(calculator, {"expression": "17 * 23"})     one reply of the model
    Result("391")                                                              one for each call, in the same order
    Answer("It is 391.")   End("answered")

`conversation` writes the messages for the model from the steps alone, and `from_record` reads a step back from its
record in the journal. So an agent that was killed continues with the same messages as one that was not.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any, Literal, get_args

from qianwen.agents.tool import Effect, Observation
from qianwen.chat.messages import Message, ToolCall, from_openai, to_openai

EndReason = Literal[
    "answered",  # the model answered
    "calls",  # the calls of its budget were spent; it was asked to answer without tools
    "repeated",  # it made the same call again and again; it was asked to answer without tools
    "tokens",  # the tokens of its budget were spent
    "time",  # the seconds of its budget were spent
    "length",  # its answer reached the limit of one reply, or of the context
    "empty",  # it replied with nothing, also when it was asked once more
    "stopped",  # the user stopped it
    "error",  # the model could not be asked; `detail` says why
]
END_REASONS: tuple[str, ...] = get_args(EndReason)


@dataclass(frozen=True)
class Given:
    """A message that the agent was given: the user's, or an earlier one of the conversation."""

    message: Message


@dataclass(frozen=True)
class Thought:
    """What the model wrote before its calls. `reasoning` are the thoughts of a model that marks them as such."""

    text: str
    reasoning: str = ""


@dataclass(frozen=True)
class Call:
    """A call that the model asks for, with what its tool does. The call's `id` is unique, and the same after a kill."""

    call: ToolCall
    effect: Effect


Status = Literal[
    "done",  # the tool returned its result
    "failed",  # the tool raised an error
    "invalid",  # there is no such tool, or the arguments do not satisfy its schema
    "denied",  # the user or the policy did not allow it
    "skipped",  # it was not made: the budget was spent, it was a repetition, or the user stopped the run
    "unknown",  # it was interrupted, and may have happened or not
]


@dataclass(frozen=True)
class Result:
    """What came back from the call with the id `call_id`, for a tool called `name`.

    `fault` is why a tool failed by its own fault; it is for the user, and the model does not see it.
    """

    call_id: str
    name: str
    observation: Observation
    status: Status = "done"
    fault: str = ""


@dataclass(frozen=True)
class Answer:
    """The text for the user."""

    text: str
    reasoning: str = ""


@dataclass(frozen=True)
class End:
    """Why the agent stopped working on what it was given."""

    reason: EndReason
    detail: str = ""


Step = Given | Thought | Call | Result | Answer | End
_KINDS = {kind.__name__.lower(): kind for kind in (Given, Thought, Call, Result, Answer, End)}


def conversation(steps: Sequence[Step]) -> list[Message]:
    """The messages for the model. A thought and the calls after it are one message of the assistant."""
    messages: list[Message] = []
    for index, step in enumerate(steps):
        match step:
            case Given(message):
                messages.append(message)
            case Thought(text, reasoning):
                messages.append(
                    Message("assistant", text, reasoning_content=reasoning, tool_calls=_calls(steps, index + 1))
                )
            case Call() if index == 0 or not isinstance(steps[index - 1], Thought | Call):
                messages.append(Message("assistant", "", tool_calls=_calls(steps, index)))
            case Result(call_id, name, observation):
                messages.append(Message("tool", observation.text, name=name, tool_call_id=call_id))
            case Answer(text, reasoning):
                messages.append(Message("assistant", text, reasoning_content=reasoning))
    return messages


def _calls(steps: Sequence[Step], start: int) -> tuple[ToolCall, ...]:
    """The calls that stand together from `start` on."""
    return tuple(step.call for step in takewhile(lambda step: isinstance(step, Call), steps[start:]))  # type: ignore[union-attr]


def open_calls(steps: Sequence[Step]) -> list[Call]:
    """The calls that have no result yet, in their order."""
    done = {step.call_id for step in steps if isinstance(step, Result)}
    return [step for step in steps if isinstance(step, Call) and step.call.id not in done]


def since_given(steps: Sequence[Step]) -> Sequence[Step]:
    """The steps after the last message that the agent was given."""
    start = max((index for index, step in enumerate(steps) if isinstance(step, Given)), default=-1)
    return steps[start + 1 :]


def to_record(step: Step) -> dict[str, Any]:
    """A step as JSON, with its kind."""
    record: dict[str, Any] = {"kind": type(step).__name__.lower()}
    match step:
        case Given(message):
            return record | {"message": to_openai(message)}
        case Call(call, effect):
            return record | {"id": call.id, "name": call.name, "arguments": call.arguments, "effect": effect}
        case Result(observation=observation):
            files = [str(path) for path in observation.files]
            shown = {"text": observation.text, "is_error": observation.is_error, "files": files}
            return record | {name: value for name, value in vars(step).items() if name != "observation"} | shown
    return record | vars(step)


def from_record(record: Mapping[str, Any]) -> Step:
    """The step of a record that `to_record` made."""
    fields = dict(record)
    kind = _KINDS[fields.pop("kind")]
    if kind is Given:
        return Given(from_openai(fields["message"]))
    if kind is Call:
        effect = fields.pop("effect")
        return Call(ToolCall(**fields), effect)
    if kind is Result:
        files = tuple(Path(path) for path in fields.pop("files"))
        observation = Observation(fields.pop("text"), fields.pop("is_error"), files)
        return Result(observation=observation, **fields)
    return kind(**fields)
