"""Files of dialogues, and dialogues as packed training sequences.

Read are JSON lines or one JSON list, plain or packed (.gz, .zst), of records in either form:

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}      ours, and OpenAI's
    {"conversations": [{"from": "user", "value": "…"}, {"from": "assistant", "value": "…"}]}            finetune.py's

A sequence holds several short dialogues whole; positions restart with each, so none attends to another, and a label is
there only where the mask says that the model is to write the next token. Shapes: B sequences, L = seq_len.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qianwen.chat.chatml import Mask, Rendered, render
from qianwen.chat.messages import FunctionSpec, Message, from_openai
from qianwen.data.pack import IGNORED
from qianwen.runtime.errors import DataError, RequestError
from qianwen.runtime.files import open_bytes, read_jsonl
from qianwen.runtime.language import tr
from qianwen.tokenizer.tokenizer import Tokenizer


class Dialogue(NamedTuple):
    """A conversation to learn from, with the functions it may call."""

    messages: list[Message]
    functions: list[FunctionSpec] = []


def read_dialogues(path: str | Path) -> Iterator[Dialogue]:
    """The dialogues of a file, in either form. Raises DataError naming the record that cannot be read."""
    file = Path(path)
    if not file.exists():
        raise DataError(tr("{path}: no such file", path=path))
    for number, row in enumerate(_rows(file), start=1):
        try:
            yield _dialogue(row)
        except (RequestError, KeyError, TypeError, AttributeError) as error:
            message = tr("{path}, record {number}: {error}", path=path, number=number, error=error)
            raise DataError(message) from error


def _rows(file: Path) -> Iterator[Any]:
    """A file that begins with `[` is one JSON list, any other is JSON lines."""
    with open_bytes(file) as handle:
        is_list = handle.read(64).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")
    if not is_list:
        yield from read_jsonl(file)
        return
    with open_bytes(file) as handle:
        try:
            rows = json.loads(handle.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise DataError(tr("{path}: {error}", path=file, error=error)) from error
    yield from rows


def _dialogue(row: Any) -> Dialogue:
    if "messages" in row:
        messages = [from_openai(message) for message in row["messages"]]
    elif "conversations" in row:
        messages = [Message(turn["from"], turn["value"]) for turn in row["conversations"]]
    else:
        raise KeyError(tr("neither `messages` nor `conversations` in it"))
    if not any(message.role == "assistant" for message in messages):
        raise KeyError(tr("the assistant never speaks in it"))
    return Dialogue(
        messages, [FunctionSpec.from_openai(spec) for spec in row.get("tools") or row.get("functions") or ()]
    )


def rendered(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, mask: Mask, seq_len: int) -> list[Rendered]:
    """Dialogues as ids and masks, cut to `seq_len`; one of which nothing would be learned is left out.

    Raises DataError when the mask would teach nothing, everything, or never the end of an answer.
    """
    whole = [render(dialogue.messages, tokenizer, functions=dialogue.functions, mask=mask) for dialogue in dialogues]
    cut = [Rendered(one.ids[:seq_len], one.loss_mask[:seq_len]) for one in whole]
    kept = [one for one in cut if any(one.loss_mask[1:])]
    if not kept:
        raise DataError(tr("nothing would be learned: no answer begins within {size} tokens", size=seq_len))
    if all(all(one.loss_mask) for one in kept):
        raise DataError(tr("everything would be learned, questions too: the mask marks no answer"))
    if not any(
        learned and id == tokenizer.im_end_id
        for one in kept
        for id, learned in zip(one.ids, one.loss_mask, strict=True)
    ):
        message = tr("no answer ends within {size} tokens: the model would never learn to stop", size=seq_len)
        raise DataError(message)
    return kept


class PackedDialogues:
    """Rendered dialogues in sequences of `seq_len`, each dialogue whole; epoch after epoch in an order of its own.

    `len()` is the sequences of one epoch; cursors go on past it. What is left of a sequence is padding without labels.
    """

    def __init__(self, dialogues: Sequence[Rendered], seq_len: int, pad_id: int, *, seed: int = 0) -> None:
        self.seq_len, self.pad_id, self.seed = seq_len, pad_id, seed
        self.bins = pack(dialogues, seq_len)

    def __len__(self) -> int:
        return len(self.bins)

    def batch(self, cursor: int, micro_batch_size: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `positions` [B, L] of the sequences `cursor`, `cursor` + 1, …"""
        shape = (micro_batch_size, self.seq_len)
        ids, labels = np.full(shape, self.pad_id), np.full(shape, IGNORED)
        positions = np.zeros(shape, dtype=np.int64)
        for row in range(micro_batch_size):
            start = 0
            for one in self._bin(cursor + row):
                end = start + len(one.ids)
                ids[row, start:end] = one.ids
                labels[row, start : end - 1] = np.where(one.loss_mask[1:], one.ids[1:], IGNORED)
                positions[row, start:end] = np.arange(end - start)
                start = end
            positions[row, start:] = np.arange(self.seq_len - start)  # padding is a document of its own
        return {
            name: torch.from_numpy(a) for name, a in (("input_ids", ids), ("labels", labels), ("positions", positions))
        }

    def _bin(self, cursor: int) -> list[Rendered]:
        epoch, place = divmod(cursor, len(self.bins))
        order = np.random.RandomState([self.seed % 2**32, epoch]).permutation(len(self.bins))
        return self.bins[order[place]]


def pack(dialogues: Sequence[Rendered], seq_len: int) -> list[list[Rendered]]:
    """Dialogues put together so that each group fits `seq_len`: the longest first, each where it leaves least room."""
    bins: list[list[Rendered]] = []
    by_room: dict[int, list[int]] = {}  # tokens left → bins
    for one in sorted(dialogues, key=lambda one: len(one.ids), reverse=True):
        size = len(one.ids)
        room = next((room for room in range(size, seq_len + 1) if by_room.get(room)), None)
        if room is None:
            bins.append([])
            room, index = seq_len, len(bins) - 1
        else:
            index = by_room[room].pop()
        bins[index].append(one)
        by_room.setdefault(room - size, []).append(index)
    return bins
