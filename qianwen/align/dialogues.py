"""Files of dialogues, and dialogues as packed training sequences.

Read are JSON lines or one JSON list, plain or packed (.gz, .zst), of records in the forms of `records.py`.

A sequence holds several short dialogues whole; positions restart with each, so none attends to another, and a label is
there only where the mask says that the model is to write the next token. Shapes: B sequences, L = seq_len.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qianwen.align.records import Dialogue as Dialogue
from qianwen.align.records import read_record
from qianwen.chat.chatml import Mask, Rendered, render
from qianwen.data.tokens.pack import IGNORED
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import open_bytes, read_jsonl
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

GRAIN = 64  # tokens to a multiple of which a batch is long: a CPU compiles its products for each length it meets


def read_dialogues(path: str | Path) -> Iterator[Dialogue]:
    """The dialogues of a file, in any form. Raises DataError where there is none, or naming one that cannot be read."""
    file = Path(path)
    if not file.exists():
        raise DataError(tr("{path}: no such file", path=path))
    number = 0
    for number, row in enumerate(_rows(file), start=1):
        try:
            yield read_record(row)
        except DataError as error:
            message = tr("{path}, record {number}: {error}", path=path, number=number, error=error)
            raise DataError(message) from error
    if not number:
        raise DataError(tr("{path} contains no dialogue", path=path))


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


def rendered(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, mask: Mask, seq_len: int) -> list[Rendered]:
    """Dialogues as ids and masks, cut to `seq_len`; one of which nothing would be learned is left out.

    Raises DataError when the mask would teach nothing, everything, or never the end of an answer.
    """
    whole = [render(dialogue.messages, tokenizer, functions=dialogue.functions, mask=mask) for dialogue in dialogues]
    cut = [Rendered(one.ids[:seq_len], one.loss_mask[:seq_len]) for one in whole]
    kept = [one for one in cut if any(one.loss_mask[1:])]
    if not kept:
        raise DataError(
            tr(
                "no answer begins within {size} tokens, so there is nothing to train on; use a larger --seq-len",
                size=seq_len,
            )
        )
    if all(all(one.loss_mask) for one in kept):
        raise DataError(
            tr(
                "the mask marks no answer, so the loss would cover the user's messages "
                "too; mark at least one assistant turn"
            )
        )
    if not any(
        learned and id == tokenizer.im_end_id
        for one in kept
        for id, learned in zip(one.ids, one.loss_mask, strict=True)
    ):
        message = tr(
            "no answer ends within {size} tokens, so the model could not learn to stop; use a larger --seq-len",
            size=seq_len,
        )
        raise DataError(message)
    _warn_of_cuts(whole, kept, seq_len)
    return kept


def _warn_of_cuts(whole: Sequence[Rendered], kept: Sequence[Rendered], seq_len: int) -> None:
    """Say how many dialogues were cut, and what that cost."""
    cut = sum(len(one.ids) > seq_len for one in whole)
    if not cut:
        return
    message = (
        "{cut} of {all} dialogues are longer than {size} tokens and were truncated: {dropped} "
        "of them have no answer left and are skipped; {tokens:,} of {learned:,} answer tokens "
        "are lost; a larger --seq-len keeps more"
    )
    counts = [sum(sum(one.loss_mask) for one in some) for some in (whole, kept)]
    numbers = {"cut": cut, "all": len(whole), "dropped": len(whole) - len(kept), "size": seq_len}
    console.print(tr(message, **numbers, tokens=counts[0] - counts[1], learned=counts[0]), style="yellow")


class PackedDialogues:
    """Rendered dialogues in sequences of `seq_len`, each dialogue whole; epoch after epoch in an order of its own.

    `len()` is the sequences of one epoch; cursors go on past it. What is left of a sequence is padding without labels,
    as far as the longest of a batch goes: no more of it is computed.
    """

    def __init__(self, dialogues: Sequence[Rendered], seq_len: int, pad_id: int, *, seed: int = 0) -> None:
        self.seq_len, self.pad_id, self.seed = seq_len, pad_id, seed
        self.bins = pack(dialogues, seq_len)

    def __len__(self) -> int:
        return len(self.bins)

    def batch(self, cursor: int, micro_batch_size: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `positions` [B, L] of the sequences `cursor`, `cursor` + 1, …

        L is `seq_len`, or less where none of them is longer.
        """
        bins = [self._bin(cursor + row) for row in range(micro_batch_size)]
        longest = max(sum(len(one.ids) for one in each) for each in bins)
        shape = (micro_batch_size, min(-(-longest // GRAIN) * GRAIN, self.seq_len))
        ids, labels = np.full(shape, self.pad_id), np.full(shape, IGNORED)
        positions = np.zeros(shape, dtype=np.int64)
        for row, each in enumerate(bins):
            start = 0
            for one in each:
                end = start + len(one.ids)
                ids[row, start:end] = one.ids
                labels[row, start : end - 1] = np.where(one.loss_mask[1:], one.ids[1:], IGNORED)
                positions[row, start:end] = np.arange(end - start)
                start = end
            positions[row, start:] = np.arange(shape[1] - start)  # padding is a document of its own
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
