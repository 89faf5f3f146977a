"""One record of a file of dialogues → the conversation it holds, in any of the usual forms.

    {"messages": [{"role": "user", "content": "…"}, …], "tools": […]}                    OpenAI's, and ours
    {"conversations": [{"from": "user", "value": "…"}, …]}                               the released finetune.py's
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}], "tools": "[…]"}       ShareGPT's
    {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"], …]}        Alpaca's
    {"query": "…", "response": "…", "history": [["…", "…"], …]}                          swift's
    {"prompt": "…", "completion": "…"}                                                   a question and its answer

A system message may come first, as a turn or as a field `system`. Only some fields are the conversation; others, such
as an id, are not read. A record whose form is known but for another purpose (plain text, a pair of a better and a worse
answer, pictures) is refused by name. Not here: one turn (`turns.py`), files (`dialogues.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from qianwen.align.turns import RecordError, read_functions, read_turn, wrong
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.runtime.errors import DataError, excerpt
from qianwen.runtime.translation import tr

TURNS = ("messages", "conversations", "conversation")
PAIRS = (
    ("instruction", "output"),
    ("instruction", "response"),
    ("query", "response"),
    ("prompt", "completion"),
    ("prompt", "response"),
    ("question", "answer"),
    ("input", "output"),
)
CONTEXTS = ("input", "context")  # further text of an instruction
MEDIA = ("images", "image", "videos", "video", "audios", "audio")


@dataclass(frozen=True)
class Dialogue:
    """A conversation to learn from, with the functions it may call and its place in its file."""

    messages: list[Message]
    functions: list[FunctionSpec] = field(default_factory=list)
    place: str = field(default="", compare=False)

    def at(self, place: str) -> "Dialogue":
        """The same dialogue at a place, such as "line 3"."""
        return replace(self, place=place)


def read_record(row: Any) -> Dialogue:
    """The conversation of a record. Raises RecordError, which says what is wrong, if it has none to learn from."""
    if isinstance(row, DataError):  # a line that is not a JSON object
        raise RecordError(str(row), tr("expected a JSON object")) from row
    if not isinstance(row, Mapping):
        message = tr("expected a JSON object; got {value}", value=excerpt(row))
        raise RecordError(message, tr("expected a JSON object"))
    _require_sft(row)
    messages = _messages(row)
    if messages and messages[0].role != "system" and (system := row.get("system")):
        messages.insert(0, Message("system", _text(system, "system")))
    answers = [message for message in messages if message.role == "assistant"]
    if not answers:
        raise RecordError(tr("it has no assistant message"))
    if not any(message.text.strip() or message.tool_calls for message in answers):
        raise RecordError(tr("every answer is empty"))
    if not any(message.is_learned for message in answers):
        raise RecordError(tr("every answer is excluded from training by `weight`, `train` or `loss`"))
    name = "tools" if row.get("tools") else "functions"
    return Dialogue(messages, read_functions(row.get(name), name))


def _require_sft(row: Mapping[str, Any]) -> None:
    """Raise for records that hold more than a conversation, which would be learned wrongly without the rest."""
    if "chosen" in row and "rejected" in row:
        raise RecordError(tr("it compares two answers (`chosen`, `rejected`); sft learns from one answer"))
    if row.get("kto_tag") is False:
        raise RecordError(tr("its answer is marked as bad (`kto_tag`)"))
    for name in MEDIA:
        if row.get(name):
            raise RecordError(tr("it has `{field}`, but this model reads text only", field=name))


def _messages(row: Mapping[str, Any]) -> list[Message]:
    present = [name for name in TURNS if name in row]
    name = next((name for name in present if row[name]), present[0] if present else None)
    if name is not None:
        return _turns(row[name], name)
    pair = next((pair for pair in PAIRS if pair[0] in row and pair[1] in row), None)
    if pair is not None:
        return _pair(row, *pair)
    if "text" in row:
        raise RecordError(
            tr("it is plain text (`text`), not a conversation; `qianwen pretrain` learns from plain text")
        )
    raise RecordError(
        tr("it has neither `messages`, nor `conversations`, nor a pair such as `instruction` and `output`")
    )


def _turns(value: Any, field: str) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise wrong(field, tr("must be a list of turns"), value) from error
    if not isinstance(value, list):
        raise wrong(field, tr("must be a list of turns"), value)
    return [read_turn(turn, f"{field}[{index}]") for index, turn in enumerate(value)]


def _pair(row: Mapping[str, Any], question: str, answer: str) -> list[Message]:
    """A record of one question and one answer, and perhaps of the turns before them."""
    messages = _history(row.get("history"))
    for name, role in ((question, "user"), (answer, "assistant")):
        if isinstance(row[name], list) and any(isinstance(turn, Mapping) for turn in row[name]):  # TRL: messages
            messages += _turns(row[name], name)
            continue
        text = _text(row[name], name)
        context = next((each for each in CONTEXTS if row.get(each)), None)
        if name == "instruction" and context is not None:
            text = "\n".join(part for part in (text, _text(row[context], context)) if part)
        messages.append(read_turn({"role": role, "content": text}, name))
    return messages


def _history(value: Any) -> list[Message]:
    """Earlier turns: pairs of a question and its answer, or turns."""
    if not value:
        return []
    if not isinstance(value, list):
        raise wrong("history", tr("must be a list of pairs"), value)
    messages = []
    for index, entry in enumerate(value):
        field = f"history[{index}]"
        if isinstance(entry, Mapping):
            messages.append(read_turn(entry, field))
        elif isinstance(entry, list) and len(entry) == 2:
            turns = (
                {"from": who, "value": _text(text, field)} for who, text in zip(("user", "gpt"), entry, strict=True)
            )
            messages += [read_turn(turn, field) for turn in turns]
        else:
            raise wrong(field, tr("must be a pair of a question and an answer"), entry)
    return messages


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise wrong(field, tr("must be text"), value)
    return value
