"""The texts of a row that a person reads and edits, one by one.

    dialogue    each turn; of a call its thought, action (function), input (arguments) and observation (result)
    ReAct       the same, where the steps are lines of one answer: `Thought:`, `Action:`, …
    pair        the question, and two answers to compare

A row is first brought into one form: `messages` and `tools`, or `prompt`, `chosen` and `rejected`, each a list of
messages of OpenAI's API. A part has an address in it, so an edited text is put back in its place.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from qianwen.align.records import read_record
from qianwen.align.turns import RecordError, read_turn
from qianwen.chat.messages import to_openai

STEP = re.compile(r"^(Thought|Action Input|Action|Observation|Final Answer)[:：][ ]?", re.M)
PAIR = ("prompt", "chosen", "rejected")
KINDS = {"Thought": "thought", "Action": "action", "Action Input": "input", "Observation": "observation"}


@dataclass(frozen=True)
class Part:
    """A text of a row. `side` is the list it is in; `path` leads to it; `step` is its number in a ReAct text, or -1."""

    kind: str  # system, user, assistant, thought, action, input, observation
    text: str
    side: str
    path: tuple[str | int, ...]
    step: int = -1


def normal_row(record: Any) -> dict[str, Any]:
    """The row in one form. Raises RecordError if it is neither a dialogue nor a pair."""
    if isinstance(record, Mapping) and "chosen" in record and "rejected" in record:
        return _pair(record)
    dialogue = read_record(record)
    row: dict[str, Any] = {"messages": [to_openai(message) for message in dialogue.messages]}
    for index in dialogue.excluded:
        row["messages"][index]["weight"] = 0
    if dialogue.functions:
        row["tools"] = [function.to_openai() for function in dialogue.functions]
    return row | ({"ability": dialogue.ability} if dialogue.ability else {})


def _pair(record: Mapping[str, Any]) -> dict[str, Any]:
    """A pair of answers. Without a prompt the answers begin with the same turns, which are the prompt."""
    prompt = _messages(record.get("prompt", record.get("question", record.get("instruction", []))), "prompt", "user")
    chosen, rejected = (_messages(record[name], name, "assistant") for name in PAIR[1:])
    if not prompt:
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    if not prompt or not chosen or not rejected:
        raise RecordError("it needs a prompt and two answers (`prompt`, `chosen`, `rejected`)")
    return {"prompt": prompt, "chosen": chosen, "rejected": rejected}


def _messages(value: Any, field: str, role: str) -> list[dict[str, Any]]:
    turns = value if isinstance(value, list) else [{"role": role, "content": value}]
    return [to_openai(read_turn(turn, f"{field}[{index}]").message) for index, turn in enumerate(turns)]


def parts_of(row: Mapping[str, Any]) -> list[Part]:
    """All parts in their order."""
    sides = PAIR if "chosen" in row else ("messages",)
    return [part for side in sides for index, turn in enumerate(row[side]) for part in _parts(turn, side, index)]


def _parts(turn: Mapping[str, Any], side: str, index: int) -> Iterator[Part]:
    role, text, calls = turn["role"], turn.get("content") or "", turn.get("tool_calls") or []
    path = (side, index, "content")
    steps = list(STEP.finditer(text)) if role == "assistant" else []
    if len(steps) > 1:
        ends = [*(match.start() for match in steps[1:]), len(text)]
        for number, (match, end) in enumerate(zip(steps, ends, strict=True)):
            yield Part(KINDS.get(match[1], "assistant"), text[match.end() : end].rstrip("\n"), side, path, number)
        return
    if text or not calls:
        yield Part({"tool": "observation"}.get(role, "thought" if calls else role), text, side, path)
    for number, call in enumerate(calls):
        for kind, name in (("action", "name"), ("input", "arguments")):
            place = (side, index, "tool_calls", number, "function", name)
            yield Part(kind, call["function"][name], side, place)


def with_texts(row: dict[str, Any], texts: Mapping[int, str]) -> dict[str, Any]:
    """The row with other texts for some of its parts, by their number in `parts_of`."""
    parts, edited = parts_of(row), copy.deepcopy(row)
    for number, text in sorted(texts.items(), reverse=True):  # from the end: later steps of a text keep their place
        if not 0 <= number < len(parts):
            continue
        part = parts[number]
        place: Any = edited
        for key in part.path[:-1]:
            place = place[key]
        last = part.path[-1]
        place[last] = text if part.step < 0 else _with_step(place[last], part.step, text)
    return edited


def _with_step(whole: str, step: int, text: str) -> str:
    steps = list(STEP.finditer(whole))
    end = steps[step + 1].start() if step + 1 < len(steps) else len(whole)
    old = whole[steps[step].end() : end]
    newlines = old[len(old.rstrip("\n")) :]
    return whole[: steps[step].end()] + text.rstrip("\n") + newlines + whole[end:]
