"""Held-out loss of fine-tuning: the mean loss of the labelled tokens of dialogues that are not trained on.

The dialogues are rendered and packed as in training, so the loss can be compared with the training loss. Unit: nats per
labelled token.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from qianwen.align.dialogues import PackedDialogues, read_dialogues, rendered
from qianwen.chat.render import Mask
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.train.pretrain import next_token_loss


class HeldOutDialogues:
    """Files of dialogues, each measured under its own name. Raises DataError as training does."""

    def __init__(self, files: Sequence[str], tokenizer: Tokenizer, mask: Mask, seq_len: int, pad_id: int) -> None:
        names = [Path(file).name.partition(".")[0] for file in files]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(tr("two held-out files have the name {name}; rename one of them", name=twice))
        self.files = {
            name: PackedDialogues(rendered(list(read_dialogues(file)), tokenizer, mask, seq_len), seq_len, pad_id)
            for name, file in zip(names, files, strict=True)
        }

    @torch.no_grad()
    def losses(self, model: Any) -> dict[str, float]:
        """`{"held_out_NAME": nats per labelled token}`; `model` should be in eval mode."""
        return {f"held_out_{name}": _loss(model, batches) for name, batches in self.files.items()}


def _loss(model: Any, batches: PackedDialogues) -> float:
    device = next(model.parameters()).device
    total, num_labels = 0.0, 0
    for cursor in range(len(batches)):
        batch = {name: tensor.to(device) for name, tensor in batches.batch(cursor, 1).items()}
        loss, count, _ = next_token_loss(model, batch)
        total, num_labels = total + loss.item(), num_labels + int(count)
    return total / num_labels
