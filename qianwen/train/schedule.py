"""The learning rate of each step: a linear warm-up, then half a cosine down to a share of the peak (report, 2.4).

    step + 1 ≤ warm-up     lr · (step + 1) / warm-up
    after it               lr · (r + (1 - r) · (1 + cos(π · progress)) / 2),   r = min_lr_ratio

The peak falls on the last warm-up step and the lowest rate on the last step of the run.
"""

import math
from typing import Literal

Shape = Literal["cosine", "constant"]


def learning_rate(
    step: int, *, steps: int, lr: float, warmup_steps: int = 0, min_lr_ratio: float = 0.1, shape: Shape = "cosine"
) -> float:
    """The rate of the 0-based `step` out of `steps`; `constant` stays at the peak after its warm-up.

    >>> [round(learning_rate(step, steps=6, lr=1.0, warmup_steps=2), 3) for step in range(6)]
    [0.5, 1.0, 0.868, 0.55, 0.232, 0.1]
    """
    if step < warmup_steps:
        return lr * (step + 1) / warmup_steps
    if shape == "constant":
        return lr
    progress = min(1.0, (step + 1 - warmup_steps) / max(1, steps - warmup_steps))
    return lr * (min_lr_ratio + (1 - min_lr_ratio) * (1 + math.cos(math.pi * progress)) / 2)
