"""The data of a fine-tuning: one file of dialogues or several, and their packed sequences in the proportions asked for.

    no weights     the dialogues of all files are one set, and an epoch uses each of them once
    weights        file f gives the share w_f / Σ w of the sequences; each file is packed and shuffled on its own, and
                   starts again when all its dialogues were used

The order depends on the cursor only (`data/tokens/interleaving.py`), so a resumed run continues exactly. An epoch is as
many sequences as all files have together.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.table import Table

from qianwen.align.dialogues import Dialogue, PackedDialogues, padded, read_dialogues, rendered
from qianwen.align.sft_config import Data
from qianwen.chat.render import Mask, Rendered
from qianwen.data.tokens.interleaving import Interleaving
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer

BLOCK = 16  # sequences after which the proportions are exact


def data_files(data: Data, weights: Sequence[float] = ()) -> tuple[str, ...]:
    """The files of a configuration. Raises ConfigError for a file that is named twice and for wrong weights."""
    files = (data,) if isinstance(data, str) else tuple(data)
    if not files:
        raise ConfigError(tr("there is no file of dialogues: add --data FILE"))
    resolved = [Path(file).resolve() for file in files]
    if twice := next((file for file, path in zip(files, resolved, strict=True) if resolved.count(path) > 1), None):
        message = tr("{path} is named twice; name it once and give it a larger weight (--weights)", path=twice)
        raise ConfigError(message)
    if weights and (len(files) == 1 or len(weights) != len(files)):
        message = "{weights} weight{weights:plural} for {files} file{files:plural}: give one per file, for two or more"
        raise ConfigError(tr(message, weights=len(weights), files=len(files)))
    for file, weight in zip(files, weights, strict=False):
        if not 0 < weight < float("inf"):
            message = "the weight of {path} is {weight:g}: give a number above 0, or leave the file out"
            raise ConfigError(tr(message, path=file, weight=weight))
    return files


def read_files(files: Sequence[str], *, quiet: bool = False) -> list[list[Dialogue]]:
    """The dialogues of each file. Raises DataError as `read_dialogues` does."""
    return [list(read_dialogues(file, quiet=quiet)) for file in files]


def render_files(
    files: Sequence[str], dialogues: Sequence[Sequence[Dialogue]], tokenizer: Tokenizer, mask: Mask, seq_len: int
) -> list[list[Rendered]]:
    """The dialogues of each file with ids and labels, truncated to `seq_len`. DataError names the file."""
    parts = []
    for file, of_file in zip(files, dialogues, strict=True):
        try:
            parts.append(rendered(of_file, tokenizer, mask, seq_len))
        except DataError as error:
            raise DataError(f"{file}: {error}" if len(files) > 1 else str(error)) from error
    return parts


class MixedDialogues:
    """Packed dialogues of several files in the proportions of `weights`, with the methods of `PackedDialogues`."""

    def __init__(self, parts: Sequence[PackedDialogues], weights: Sequence[float], *, seed: int = 0) -> None:
        self.parts = parts
        self.shares = [weight / sum(weights) for weight in weights]
        self.seq_len, self.pad_id = parts[0].seq_len, parts[0].pad_id
        self._order = Interleaving(self.shares, seed=seed, block=BLOCK)

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batch(self, cursor: int, micro_batch_size: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `positions` [B, L] of the sequences `cursor`, `cursor` + 1, …"""
        rows = [self.sequence(cursor + row) for row in range(micro_batch_size)]
        return padded(rows, self.seq_len, self.pad_id)

    def sequence(self, cursor: int) -> list[Rendered]:
        """The dialogues of a sequence."""
        part, number = self._order.place(cursor)
        return self.parts[part].sequence(number)


def training_sequences(
    parts: Sequence[Sequence[Rendered]], weights: Sequence[float], seq_len: int, pad_id: int, seed: int
) -> PackedDialogues | MixedDialogues:
    """The sequences of a run, from the dialogues of each file."""
    if not weights:
        return PackedDialogues([each for part in parts for each in part], seq_len, pad_id, seed=seed)
    packed = [PackedDialogues(part, seq_len, pad_id, seed=seed) for part in parts]
    return MixedDialogues(packed, weights, seed=seed)


@dataclass(frozen=True)
class FileCounts:
    """What a run uses of a file: its dialogues with a label, their tokens, and how often it uses all of them."""

    file: str
    dialogues: int
    tokens: int
    share: float  # of the tokens without weights, of the sequences with weights
    epochs: float


def count_files(
    files: Sequence[str],
    parts: Sequence[Sequence[Rendered]],
    batches: PackedDialogues | MixedDialogues,
    num_sequences: int,
) -> list[FileCounts]:
    """The counts of each file in a run of `num_sequences`."""
    sizes = [sum(len(each.ids) for each in part) for part in parts]
    if isinstance(batches, MixedDialogues):
        shares = batches.shares
        epochs = [share * num_sequences / len(part) for share, part in zip(shares, batches.parts, strict=True)]
    else:
        shares = [size / sum(sizes) for size in sizes]
        epochs = [num_sequences / len(batches)] * len(parts)
    return [FileCounts(*row) for row in zip(files, map(len, parts), sizes, shares, epochs, strict=True)]


def files_table(counts: Sequence[FileCounts]) -> Table:
    """One row for each file, by its name without the folders unless two files have the same."""
    names = [Path(row.file).name for row in counts]
    table = Table(box=None, header_style="dim")
    table.add_column(tr("file"))
    for heading in (tr("dialogues"), tr("tokens"), tr("share"), tr("epochs")):
        table.add_column(heading, justify="right")
    for name, row in zip(names, counts, strict=True):
        label = name if names.count(name) == 1 else row.file
        table.add_row(label, f"{row.dialogues:,}", f"{row.tokens:,}", f"{row.share:.1%}", f"{row.epochs:.2f}")
    return table
