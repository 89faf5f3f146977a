"""Everything about a fine-tuning run that is known before it starts: its settings, its steps, its memory and its time.

`qianwen sft MODEL --data FILE` prints it, and the page of the server displays it before somebody starts the run.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from qianwen.align.dialogues import all_rendered, pack, read_dialogues, rendered
from qianwen.align.sft import Method, SFTConfig
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
    num_dialogues: int
    steps: int
    seconds: float
    first: Rendered  # the first dialogue, to see which of its tokens have a label
    tokenizer: Tokenizer


def plan_finetune(plain: SFTConfig, *, method: str = "", seq_len: int = 0) -> FinetunePlan:
    """Complete `plain` (its name, model, data and epochs) with settings that suit the data and this machine.

    `method` and `seq_len` are used if they are given. Raises DataError for data that cannot be used, and ConfigError
    if no method fits the memory that is free now.
    """
    opened, device = open_model(plain.model), best_device()
    dialogues = list(read_dialogues(plain.data, quiet=True))  # the run reads them again and prints what it leaves out
    whole = all_rendered(dialogues, opened.tokenizer, plain.mask, quiet=True)
    dtype, free = compute_dtype(device), free_memory_bytes(device)
    choice = choose(
        opened.config, [len(each.ids) for each in whole], free, itemsize=dtype.itemsize, method=method,
        has_few_bits=opened.bits is not None, seq_len=seq_len,
    )  # fmt: skip
    loop = dataclasses.replace(plain.loop, lr=choice.lr, sequences_per_step=choice.sequences_per_step)
    config = dataclasses.replace(
        plain, method=cast(Method, choice.method), seq_len=choice.seq_len, loop=loop,
        checkpoint_activations=choice.recompute,
    )  # fmt: skip
    cut = [Rendered(each.ids[: config.seq_len], each.loss_mask[: config.seq_len]) for each in whole]
    learned = [each for each in cut if any(each.loss_mask[1:])]
    if not learned:
        rendered(dialogues, opened.tokenizer, config.mask, config.seq_len)  # raises the error that says why
    num_sequences = len(pack(learned, config.seq_len))
    steps = loop.steps or math.ceil(config.epochs * num_sequences / loop.sequences_per_step)
    num_tokens = steps * loop.sequences_per_step * config.seq_len
    seconds = training_seconds(
        opened.config, cast(Task, choice.method), num_tokens, config.seq_len, recompute=choice.recompute,
        device=device, dtype=dtype,
    )  # fmt: skip
    return FinetunePlan(config, choice, free, len(dialogues), steps, seconds, whole[0], opened.tokenizer)


def default_name(model: str) -> str:
    """The name of a run that fine-tunes `model`."""
    return f"{Path(model).stem or 'model'}-sft"
