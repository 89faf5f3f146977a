"""Everything about a fine-tuning run that is known before it starts: its settings, its steps, its memory and its time.

`qianwen sft MODEL --data FILE` prints it, and the page of the server displays it before somebody starts the run.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qianwen.align.abilities import count_abilities
from qianwen.align.dialogues import all_rendered, rendered
from qianwen.align.sft_config import Method, SFTConfig
from qianwen.align.training_files import FileCounts, count_files, data_files, read_files, training_sequences
from qianwen.align.training_method import Choice, choose
from qianwen.chat.render import Rendered
from qianwen.checkpoints.load import open_model
from qianwen.runtime.device import best_device, compute_dtype, free_memory_bytes
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.duration import training_seconds
from qianwen.train.plan import Task


@dataclass(frozen=True)
class FinetunePlan:
    """A run that could be started here now."""

    config: SFTConfig
    choice: Choice
    free_bytes: float
    files: list[FileCounts]
    abilities: dict[str, dict[str, int]]
    steps: int
    seconds: float
    first: Rendered  # the first dialogue, to see which of its tokens have a label
    tokenizer: Tokenizer

    @property
    def num_dialogues(self) -> int:
        """The dialogues with a label."""
        return sum(counts.dialogues for counts in self.files)


def plan_finetune(plain: SFTConfig, *, method: str = "", seq_len: int = 0) -> FinetunePlan:
    """Complete `plain` (its name, model, data and epochs) with settings that suit the data and this machine.

    `method` and `seq_len` are used if they are given. Raises DataError for data that cannot be used, and ConfigError
    if no method fits the memory that is free now.
    """
    opened, device = open_model(plain.model), best_device()
    files = data_files(plain.data, plain.weights)
    of_files = read_files(files, quiet=True)  # the run reads them again and prints what it leaves out
    whole = [all_rendered(dialogues, opened.tokenizer, plain.mask, quiet=True) for dialogues in of_files]
    dtype, free = compute_dtype(device), free_memory_bytes(device)
    choice = choose(
        opened.config, [len(each.ids) for part in whole for each in part], free, itemsize=dtype.itemsize, method=method,
        has_few_bits=opened.bits is not None, seq_len=seq_len,
    )  # fmt: skip
    loop = dataclasses.replace(plain.loop, lr=choice.lr, sequences_per_step=choice.sequences_per_step)
    config = dataclasses.replace(
        plain, method=cast(Method, choice.method), seq_len=choice.seq_len, loop=loop,
        checkpoint_activations=choice.recompute,
    )  # fmt: skip
    parts = [_with_labels(part, config.seq_len) for part in whole]
    for dialogues, part in zip(of_files, parts, strict=True):
        if not part:
            rendered(dialogues, opened.tokenizer, config.mask, config.seq_len)  # raises the error that says why
    batches = training_sequences(parts, config.weights, config.seq_len, 0, config.seed)
    steps = loop.steps or math.ceil(config.epochs * len(batches) / loop.sequences_per_step)
    num_tokens = steps * loop.sequences_per_step * config.seq_len
    seconds = training_seconds(
        opened.config, cast(Task, choice.method), num_tokens, config.seq_len, recompute=choice.recompute,
        device=device, dtype=dtype,
    )  # fmt: skip
    counts = count_files(files, parts, batches, steps * loop.sequences_per_step)
    abilities = count_abilities([each for dialogues in of_files for each in dialogues])
    first = next(each for part in whole for each in part)
    return FinetunePlan(config, choice, free, counts, abilities, steps, seconds, first, opened.tokenizer)


def _with_labels(dialogues: list[Rendered], seq_len: int) -> list[Rendered]:
    """Truncated to `seq_len`, without those that have no label left."""
    cut = (Rendered(each.ids[:seq_len], each.loss_mask[:seq_len]) for each in dialogues)
    return [each for each in cut if any(each.loss_mask[1:])]


def default_name(model: str) -> str:
    """The name of a run that fine-tunes `model`."""
    return f"{Path(model).stem or 'model'}-sft"
