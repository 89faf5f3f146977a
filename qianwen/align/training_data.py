"""The data of a run, ready to train on: read, counted, rendered and packed, with a report on the console.

`qianwen sft` calls it before the first step; `qianwen sft … --preview` calls it and stops.
"""

import dataclasses
import math
from dataclasses import dataclass

from qianwen.align.abilities import abilities_table, count_abilities
from qianwen.align.dialogues import Dialogue, PackedDialogues
from qianwen.align.sft_config import SFTConfig
from qianwen.align.training_files import (
    MixedDialogues,
    count_files,
    data_files,
    files_table,
    read_files,
    render_files,
    training_sequences,
)
from qianwen.chat.render import ChatFormat, Rendered
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.files import sha256_file
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.loop import LoopConfig


@dataclass(frozen=True)
class TrainingData:
    """What a run learns from. `loop` is that of the configuration with the number of steps filled in."""

    dialogues: list[Dialogue]
    abilities: dict[str, dict[str, int]]  # ability → language → dialogues
    batches: PackedDialogues | MixedDialogues
    loop: LoopConfig
    fingerprint: str  # hashes of the files
    first: Rendered  # the first dialogue


def training_data(config: SFTConfig, tokenizer: Tokenizer, max_len: int) -> TrainingData:
    """The data of `config` for a model that reads `max_len` tokens. Raises ConfigError or DataError."""
    if config.seq_len > max_len:
        message = tr(
            "seq_len = {size} is more than the {most} tokens the model reads", size=config.seq_len, most=max_len
        )
        raise ConfigError(message)
    files = data_files(config.data, config.weights)
    of_files = read_files(files)
    dialogues = [each for of_file in of_files for each in of_file]
    abilities = count_abilities(dialogues)
    console.print(abilities_table(abilities))
    if num_excluded := sum(len(dialogue.excluded) for dialogue in dialogues):
        message = "answers without a label: {count:,} (empty, or excluded by `weight`, `train` or `loss`)"
        console.print(tr(message, count=num_excluded), style="yellow")
    parts = render_files(files, of_files, tokenizer, config.mask, config.seq_len)
    batches = training_sequences(parts, config.weights, config.seq_len, pad_id(tokenizer), config.seed)
    steps = config.loop.steps or math.ceil(config.epochs * len(batches) / config.loop.sequences_per_step)
    if len(files) > 1:
        console.print(files_table(count_files(files, parts, batches, steps * config.loop.sequences_per_step)))
    learned = [each for part in parts for each in part]
    message = tr(
        "{dialogues:,} dialogue{dialogues:plural} packed into {sequences:,} sequence{sequences:plural}; "
        "{learned:,} of {tokens:,} tokens have a label; {steps:,} step{steps:plural}",
        dialogues=len(learned),
        learned=sum(sum(each.loss_mask) for each in learned),
        tokens=sum(len(each.ids) for each in learned),
        sequences=len(batches),
        steps=steps,
    )
    console.print(message)
    fingerprint = " ".join(map(sha256_file, files))
    loop = dataclasses.replace(config.loop, steps=steps)
    return TrainingData(dialogues, abilities, batches, loop, fingerprint, learned[0])


def pad_id(tokenizer: Tokenizer) -> int:
    """The token that fills sequences up; it has no label, so any would do."""
    return tokenizer.special_tokens.get("<|endoftext|>", next(iter(ChatFormat(tokenizer).end_ids), 0))
