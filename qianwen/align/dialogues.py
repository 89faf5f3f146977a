"""Files of dialogues, and dialogues as packed training sequences.

A file is JSON lines or one JSON list, plain or packed (.gz, .zst), of records in the forms of `records.py`. A record
that cannot be used is left out; the reasons are counted and printed.

A sequence contains several short dialogues, each complete; positions restart with each, so none attends to another. A
token has a label only where the mask says that the model writes it. Shapes: B sequences, L = seq_len.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qianwen.align.left_out import LeftOut
from qianwen.align.records import Dialogue as Dialogue
from qianwen.align.records import read_record
from qianwen.align.turns import RecordError
from qianwen.chat.render import ChatFormat, Mask, Rendered, render
from qianwen.data.tokens.pack import IGNORED
from qianwen.runtime.errors import DataError, RequestError
from qianwen.runtime.files import open_bytes, read_rows
from qianwen.runtime.json_bytes import as_utf8
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

GRAIN = 64  # the length of a batch is a multiple of this: a CPU compiles its products for each length
MAX_UNUSABLE = 1000  # a file that begins with so many unusable records is not a file of dialogues


def read_dialogues(path: str | Path, *, quiet: bool = False) -> Iterator[Dialogue]:
    """The dialogues of a file, in any form. At the end it prints what was left out and why, unless `quiet`.

    Raises DataError for a file that is missing or damaged, and if no record can be used.
    """
    return (dialogue for _, dialogue in records_and_dialogues(path, quiet=quiet))


def records_and_dialogues(path: str | Path, *, quiet: bool = False) -> Iterator[tuple[dict[str, Any], Dialogue]]:
    """As `read_dialogues`, each with the record of the file that it was read from."""
    file = Path(path)
    if not file.exists():
        raise DataError(tr("{path}: no such file", path=path))
    left_out, num_records = LeftOut(), 0
    for num_records, row in enumerate(file_records(file), start=1):
        place = tr("record {number}", number=num_records)
        try:
            dialogue = read_record(row)
        except RecordError as error:
            left_out.add(place, error)
            if left_out.count == num_records == MAX_UNUSABLE:
                break
        else:
            yield row, replace(dialogue, place=place)
    if not num_records:
        raise DataError(tr("{path} contains no dialogue", path=path))
    counts = {"path": path, "count": left_out.count, "all": num_records}
    if left_out.count == num_records:
        raise DataError(
            tr("{path}: none of {all:,} record{all:plural} can be used:", **counts) + "\n" + left_out.report()
        )
    if left_out.count and not quiet:
        message = tr("{path}: {count:,} of {all:,} records left out:", **counts)
        console.print(f"{message}\n{left_out.report()}", style="yellow", markup=False)


def file_records(file: Path) -> Iterator[Any]:
    """The records: of one JSON list, of one JSON object in a `.json` file, else of JSON lines."""
    with as_utf8(open_bytes(file)) as handle:
        first = handle.read(64).lstrip(b" \t\r\n")[:1]
    if first == b"[":
        try:
            yield from _json(file)
        except (ValueError, RecursionError) as error:
            raise DataError(tr("{path}: {error}", path=file, error=error)) from error
        return
    if first == b"{" and ".json" in file.suffixes:
        try:
            yield _json(file)
            return
        except (ValueError, RecursionError):
            pass  # several objects: JSON lines under another name
    yield from read_rows(file)


def _json(file: Path) -> Any:
    with as_utf8(open_bytes(file)) as handle:
        return json.loads(handle.read().decode("utf-8"))


def rendered(dialogues: Sequence[Dialogue], tokenizer: Tokenizer, mask: Mask, seq_len: int) -> list[Rendered]:
    """Dialogues as ids and masks, truncated to `seq_len`; a dialogue without a label is left out.

    Raises DataError when the mask would teach nothing, everything, or never the end of an answer.
    """
    whole = all_rendered(dialogues, tokenizer, mask)
    cut = [Rendered(each.ids[:seq_len], each.loss_mask[:seq_len]) for each in whole]
    kept = [each for each in cut if any(each.loss_mask[1:])]
    if not kept:
        raise DataError(
            tr(
                "no answer begins within {size} tokens, so there is nothing to train on; use a larger --seq-len",
                size=seq_len,
            )
        )
    if all(all(each.loss_mask) for each in kept):
        raise DataError(
            tr(
                "the mask marks no answer, so the loss would cover the user's messages "
                "too; mark at least one assistant turn"
            )
        )
    ends = ChatFormat(tokenizer).end_ids
    if ends and not any(
        learned and id in ends for each in kept for id, learned in zip(each.ids, each.loss_mask, strict=True)
    ):
        message = tr(
            "no answer ends within {size} tokens, so the model could not learn to stop; use a larger --seq-len",
            size=seq_len,
        )
        raise DataError(message)
    _warn_of_cuts(whole, kept, seq_len)
    return kept


def all_rendered(
    dialogues: Sequence[Dialogue], tokenizer: Tokenizer, mask: Mask, *, quiet: bool = False
) -> list[Rendered]:
    """Dialogues in the format of the model, without those that it has no form for, such as a result before its call.

    Prints what is left out, unless `quiet`.
    """
    left_out, out = LeftOut(), []
    for dialogue in dialogues:
        try:
            out.append(_rendered(dialogue, tokenizer, mask))
        except RequestError as error:
            left_out.add(dialogue.place, error)
    counts = {"count": left_out.count, "all": len(dialogues)}
    if left_out.count and not quiet:
        message = tr(
            "{count:,} of {all:,} dialogue{all:plural} left out, without a form in this model's format:", **counts
        )
        console.print(f"{message}\n{left_out.report()}", style="yellow", markup=False)
    return out


def _rendered(dialogue: Dialogue, tokenizer: Tokenizer, mask: Mask) -> Rendered:
    out = render(dialogue.messages, tokenizer, functions=dialogue.functions, mask=mask)
    if not dialogue.excluded:
        return out
    # With the mask `clean` each answer is one run of labels, from its text to its end token.
    clean = render(dialogue.messages, tokenizer, functions=dialogue.functions, mask="clean")
    runs = [list(group) for learned, group in groupby(range(len(out.ids)), clean.loss_mask.__getitem__) if learned]
    answers = [index for index, message in enumerate(dialogue.messages) if message.role == "assistant"]
    if len(runs) != len(answers):
        raise RequestError(tr("this model's format joins several answers, so that none of them can be excluded"))
    for index, run in zip(answers, runs, strict=True):
        for place in run if index in dialogue.excluded else ():
            out.loss_mask[place] = False
    return out


def _warn_of_cuts(whole: Sequence[Rendered], kept: Sequence[Rendered], seq_len: int) -> None:
    """Print how many dialogues were truncated, and how many labels that costs."""
    cut = sum(len(each.ids) > seq_len for each in whole)
    if not cut:
        return
    message = (
        "{cut} of {all} dialogue{all:plural} truncated to {size} tokens: {dropped} "
        "of them have no answer left and are skipped; {tokens:,} of {learned:,} answer tokens "
        "are lost; a larger --seq-len keeps more"
    )
    before, after = (sum(sum(each.loss_mask) for each in group) for group in (whole, kept))
    numbers = {"cut": cut, "all": len(whole), "dropped": len(whole) - len(kept), "size": seq_len}
    console.print(tr(message, **numbers, tokens=before - after, learned=before), style="yellow")


class PackedDialogues:
    """Rendered dialogues in sequences of `seq_len`, no dialogue split; every epoch has another order.

    `len()` is the number of sequences of an epoch; larger cursors belong to later epochs. A sequence is padded, without
    labels, to the length of the longest one of its batch.
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
        rows = [self.sequence(cursor + row) for row in range(micro_batch_size)]
        return padded(rows, self.seq_len, self.pad_id)

    def sequence(self, cursor: int) -> list[Rendered]:
        """The dialogues of a sequence."""
        epoch, place = divmod(cursor, len(self.bins))
        order = np.random.RandomState([self.seed % 2**32, epoch]).permutation(len(self.bins))
        return self.bins[order[place]]


def padded(rows: Sequence[Sequence[Rendered]], seq_len: int, pad_id: int) -> dict[str, torch.Tensor]:
    """`input_ids`, `labels` and `positions` [B, L] of B rows of dialogues; L is at most `seq_len`."""
    longest = max(sum(len(dialogue.ids) for dialogue in row) for row in rows)
    shape = (len(rows), min(-(-longest // GRAIN) * GRAIN, seq_len))
    ids, labels = np.full(shape, pad_id), np.full(shape, IGNORED)
    positions = np.zeros(shape, dtype=np.int64)
    for row, dialogues in enumerate(rows):
        start = 0
        for dialogue in dialogues:
            end = start + len(dialogue.ids)
            ids[row, start:end] = dialogue.ids
            labels[row, start : end - 1] = np.where(dialogue.loss_mask[1:], dialogue.ids[1:], IGNORED)
            positions[row, start:end] = np.arange(end - start)
            start = end
        positions[row, start:] = np.arange(shape[1] - start)  # padding is a document of its own
    arrays = {"input_ids": ids, "labels": labels, "positions": positions}
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def pack(dialogues: Sequence[Rendered], seq_len: int) -> list[list[Rendered]]:
    """Groups of dialogues of at most `seq_len` tokens: best fit decreasing, so the longest come first.

    Each dialogue goes into the group where it leaves the least room.
    """
    bins: list[list[Rendered]] = []
    by_room: dict[int, list[int]] = {}  # tokens left → bins
    for dialogue in sorted(dialogues, key=lambda dialogue: len(dialogue.ids), reverse=True):
        size = len(dialogue.ids)
        room = next((room for room in range(size, seq_len + 1) if by_room.get(room)), None)
        if room is None:
            bins.append([])
            room, index = seq_len, len(bins) - 1
        else:
            index = by_room[room].pop()
        bins[index].append(dialogue)
        by_room.setdefault(room - size, []).append(index)
    return bins
