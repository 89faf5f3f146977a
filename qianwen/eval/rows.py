"""One example with its answer and score as a row of JSON, and back.

    {"index": 3, "prompt": ["2 + 2 ="], "facts": {…}, "cluster": "", "answer": {"text": "4", "is_stopped": true, …},
     "score": {"shares": {"acc": [1.0, 1.0]}, "extracted": "4", "verdict": "right"}}
    {"index": 4, "prompt": […], "facts": {…}, "cluster": "", "error": "the prompt has 9,000 tokens, but …"}

The answer has the fields of `task.Answer` that are set. Nothing in a row is random or depends on time, so the ids of
tool calls are left out.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

from qianwen.chat.messages import Message, ToolCall, from_openai
from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Choice, Complete, Episode, Example, Generate, Score, Scored, Tokenize, Windows

Row = dict[str, Any]


def example_row(index: int, example: Example) -> Row:
    """The part of a row that is known before the answer."""
    facts = json.loads(json.dumps(dict(example.facts), default=_plain))
    return {"index": index, "prompt": prompt_texts(example), "facts": facts, "cluster": example.cluster}


def answer_row(index: int, scored: Scored) -> Row:
    """The row of an example with its answer and score."""
    score = scored.score
    plain = {
        "shares": {name: [float(share.amount), float(share.count)] for name, share in score.shares.items()},
        "extracted": score.extracted,
        "verdict": score.verdict,
    }
    return example_row(index, scored.example) | {"answer": _plain_answer(scored.answer), "score": plain}


def scored_of(row: Row, example: Example) -> Scored:
    """The answer and score in a row of `answer_row`."""
    score = row["score"]
    shares = {name: Share(*values) for name, values in score["shares"].items()}
    is_right = None if score["verdict"] == "unjudged" else score["verdict"] == "right"
    return Scored(
        example, _answer(row["answer"]), Score(shares=shares, extracted=score["extracted"], is_right=is_right)
    )


def prompt_texts(example: Example) -> list[str]:
    """The texts that the model was given before its first reply; of a whole document none."""
    match example:
        case Generate() | Episode():
            return [message.text for message in example.messages]
        case Complete():
            return [example.prompt]
        case Choice():
            return [example.context]
        case Tokenize() | Windows():
            return []
        case _:
            return [example.context] if example.context else []


def _plain_answer(answer: Answer) -> dict[str, Any]:
    """The fields that are set. Ids of calls are left out, because they are random."""
    plain: dict[str, Any] = {}
    for field in dataclasses.fields(answer):
        value = getattr(answer, field.name)
        if value != field.default and value not in ((), {}):
            plain[field.name] = value
    if answer.tool_calls:
        plain["tool_calls"] = _plain_calls(answer.tool_calls)
    if answer.further:
        plain["further"] = [_plain_answer(sample) for sample in answer.further]
    if answer.conversation:
        plain["conversation"] = [_plain_message(message) for message in answer.conversation]
    return plain


def _answer(plain: Mapping[str, Any]) -> Answer:
    fields = dict(plain)
    fields["tool_calls"] = tuple(ToolCall(**call) for call in plain.get("tool_calls", ()))
    fields["choice_logprobs"] = tuple(plain.get("choice_logprobs", ()))
    fields["further"] = tuple(map(_answer, plain.get("further", ())))
    fields["conversation"] = tuple(map(from_openai, plain.get("conversation", ())))
    fields["shares"] = {name: Share(*values) for name, values in plain.get("shares", {}).items()}
    return Answer(**fields)


def _plain_calls(calls: Sequence[ToolCall]) -> list[dict[str, str]]:
    return [{"name": call.name, "arguments": call.arguments} for call in calls]


def _plain_message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if not isinstance(message.content, (str, type(None))):
        plain["content"] = [part.to_openai() for part in message.content]
    if message.name is not None:
        plain["name"] = message.name
    if message.reasoning_content:
        plain["reasoning_content"] = message.reasoning_content
    if message.tool_calls:
        plain["tool_calls"] = _plain_calls(message.tool_calls)
    return plain


def _plain(value: object) -> object:
    """Facts that JSON does not know."""
    if isinstance(value, ToolCall):
        return {"name": value.name, "arguments": value.arguments}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return sorted(value) if isinstance(value, (set, frozenset)) else str(value)
