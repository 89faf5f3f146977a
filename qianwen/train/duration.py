"""Prediction of the time of a fine-tuning run, before it starts: operations divided by the speed of this machine.

    operations   a forward pass, twice as many in the backward pass if all weights are trained, as many again for an
                 adapter, and another forward pass if activations are recomputed
    speed        the measured peak of this machine, times the share of it that fine-tuning reaches

It helps to decide, and is within a factor of two or three. The time left that a run shows comes from its own steps.
"""

from __future__ import annotations

import torch

from qianwen.model.account import forward_flops
from qianwen.model.config import QwenConfig
from qianwen.train.hooks import measured_peak
from qianwen.train.plan import Task

REACHED = 0.4  # share of the peak
UNPACKING = 1.3  # times as long, to turn codes of four bits into numbers


def training_seconds(
    config: QwenConfig, task: Task, num_tokens: int, seq_len: int, *, recompute: bool, device: torch.device,
    dtype: torch.dtype,
) -> float:  # fmt: skip
    """Seconds to train on `num_tokens` tokens in sequences of `seq_len`."""
    passes = (3 if task == "full" else 2) + recompute
    operations = num_tokens * passes * forward_flops(config, seq_len)
    return (UNPACKING if task == "qlora" else 1.0) * operations / (REACHED * measured_peak(device, dtype))
