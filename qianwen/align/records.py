"""One record of a file of dialogues → the conversation it holds, in any of the usual forms.

    {"messages": [{"role": "user", "content": "…"}, …], "tools": […]}                    OpenAI's, and ours
    {"conversations": [{"from": "user", "value": "…"}, …]}                               the released finetune.py's
    {"conversations": [{"from": "human", "value": "…"}, {"from": "gpt", …}], "tools": "[…]"}       ShareGPT's
    {"instruction": "…", "input": "…", "output": "…", "history": [["…", "…"], …]}        Alpaca's
    {"query": "…", "response": "…", "history": [["…", "…"], …]}                          swift's
    {"prompt": "…", "completion": "…"}                                                   a question and its answer

A system message may come first, as a turn or as a field `system`. Only some fields are the conversation, and `ability`
is a label of the row; others, such as an id, are not read. A record whose form is known but for another purpose (plain
text, a pair of a better and a worse answer, pictures) is refused by name. Not here: one turn (`turns.py`), files
(`dialogues.py`).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from qianwen.align.turns import RecordError, TrainingTurn, read_functions, read_turn, wrong
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
    """A conversation to learn from, with the functions it may call.

    `excluded` are the indices of answers that are not learned; `ability` is what it teaches, if the record says so
    (`abilities.py`); `place` is its place in the file, such as "record 3".
    """

    messages: list[Message]
    functions: list[FunctionSpec] = field(default_factory=list)
    excluded: frozenset[int] = frozenset()
    ability: str = ""
    place: str = field(default="", compare=False)


def read_record(row: Any) -> Dialogue:
    """The conversation of a record. Raises RecordError, which says what is wrong, if it has none to learn from."""
    if isinstance(row, DataError):  # a line that is not a JSON object
        raise RecordError(str(row), tr("expected a JSON object")) from row
    if not isinstance(row, Mapping):
        message = tr("expected a JSON object; got {value}", value=excerpt(row))
        raise RecordError(message, tr("expected a JSON object"))
    _require_sft(row)
    turns = _turns_of(row)
    if turns and turns[0].message.role != "system" and (system := row.get("system")):
        turns.insert(0, TrainingTurn(Message("system", _text(system, "system")), is_learned=False))
    answers = [turn.message for turn in turns if turn.message.role == "assistant"]
    if not answers:
        raise RecordError(tr("it has no assistant message"))
    if not any(message.text.strip() or message.tool_calls for message in answers):
        raise RecordError(tr("every answer is empty"))
    if not any(turn.is_learned for turn in turns):
        raise RecordError(tr("every answer is excluded from training by `weight`, `train` or `loss`"))
    excluded = (i for i, turn in enumerate(turns) if turn.message.role == "assistant" and not turn.is_learned)
    name = "tools" if row.get("tools") else "functions"
    ability = row.get("ability")
    return Dialogue(
        [turn.message for turn in turns],
        read_functions(row.get(name), name),
        frozenset(excluded),
        ability.strip() if isinstance(ability, str) else "",
    )


def _require_sft(row: Mapping[str, Any]) -> None:
    """Raise for records that hold more than a conversation, which would be learned wrongly without the rest."""
    if "chosen" in row and "rejected" in row:
        raise RecordError(tr("it compares two answers (`chosen`, `rejected`); sft learns from one answer"))
    if row.get("kto_tag") is False:
        raise RecordError(tr("its answer is marked as bad (`kto_tag`)"))
    for name in MEDIA:
        if row.get(name):
            raise RecordError(tr("it has `{field}`, but this model reads text only", field=name))


def _turns_of(row: Mapping[str, Any]) -> list[TrainingTurn]:
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


def _turns(value: Any, field: str) -> list[TrainingTurn]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise wrong(field, tr("must be a list of turns"), value) from error
    if not isinstance(value, list):
        raise wrong(field, tr("must be a list of turns"), value)
    return [read_turn(turn, f"{field}[{index}]") for index, turn in enumerate(value)]


def _pair(row: Mapping[str, Any], question: str, answer: str) -> list[TrainingTurn]:
    """A record of one question and one answer, and perhaps of the turns before them."""
    turns = _history(row.get("history"))
    for name, role in ((question, "user"), (answer, "assistant")):
        if isinstance(row[name], list) and any(isinstance(turn, Mapping) for turn in row[name]):  # TRL: messages
            turns += _turns(row[name], name)
            continue
        text = _text(row[name], name)
        context = next((each for each in CONTEXTS if row.get(each)), None)
        if name == "instruction" and context is not None:
            text = "\n".join(part for part in (text, _text(row[context], context)) if part)
        turns.append(read_turn({"role": role, "content": text}, name))
    return turns


def _history(value: Any) -> list[TrainingTurn]:
    """Earlier turns: pairs of a question and its answer, or turns."""
    if not value:
        return []
    if not isinstance(value, list):
        raise wrong("history", tr("must be a list of pairs"), value)
    turns = []
    for index, entry in enumerate(value):
        field = f"history[{index}]"
        if isinstance(entry, Mapping):
            turns.append(read_turn(entry, field))
        elif isinstance(entry, list) and len(entry) == 2:
            for role, text in zip(("user", "assistant"), entry, strict=True):
                turns.append(read_turn({"role": role, "content": _text(text, field)}, field))
        else:
            raise wrong(field, tr("must be a pair of a question and an answer"), entry)
    return turns


def _text(value: Any, field: str) -> str:
    if not isinstance(value, str):
        raise wrong(field, tr("must be text"), value)
    return value
