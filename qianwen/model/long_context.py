"""Training-free context extension (Qwen report, section 2.3.2).

Four small changes let a model trained on `train_len` tokens read longer inputs:

    NTK-aware RoPE     raise the rotary base, so low frequencies stretch and high ones stay
    dynamic NTK        pick that base from the length of the input at hand
    LogN scaling       scale the query at position n > train_len by log(n) / log(train_len)
    layer-wise window  low layers attend to a short window, high layers to a long one

Everything here is a pure function of lengths and positions; `transformer.py` and the caches apply it. The stretch
factor alpha is chosen once per request, when its prompt is read, and kept while it generates: keys already stored were
rotated with it. Not here: training on longer sequences, which is the recipe `extend`.
"""

import math

import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr


def ntk_alpha(seq_len: int, train_len: int) -> int:
    """Stretch factor for an input of `seq_len`: 1 up to `train_len`, then 3, 7, 15, …

    It moves with the power of two above the length, so it is constant between doublings.
    """
    return max(2 ** math.ceil(math.log2(seq_len / train_len) + 1) - 1, 1) if seq_len > train_len else 1


def stretch_factor(config: QwenConfig, seq_len: int) -> int:
    """`ntk_alpha` for a model that uses dynamic NTK, 1 for any other."""
    return ntk_alpha(seq_len, config.train_len) if config.use_dynamic_ntk else 1


def ntk_base(base: float, alpha: int, head_dim: int) -> float:
    """The rotary base whose slowest frequency is `alpha` times slower, while the fastest stays as it was."""
    return base * alpha ** (head_dim / (head_dim - 2))


def logn_scale(positions: Tensor, train_len: int) -> Tensor:
    """What each query is multiplied by: log(n) / log(train_len) for the n-th token, and 1 within `train_len`.

    `positions` count from 0, so n = position + 1. Attention over more keys is flatter; the factor sharpens it again.
    """
    count = (positions + 1).float()
    return torch.where(count > train_len, count.log() / math.log(train_len), 1.0)


def layer_windows(num_layers: int, windows: list[int]) -> tuple[int, ...]:
    """A window for each layer: the layers are cut into equal groups, which take `windows` from low to high.

    A window of 0 is full attention. The report gives the rule (lower layers are more sensitive, so shorter) but no
    numbers; `layer_windows(32, [2048, 4096, 0])` is in its spirit.
    """
    if not 0 < len(windows) <= num_layers:
        raise ConfigError(tr("{count} windows for {layers} layers", count=len(windows), layers=num_layers))
    return tuple(windows[layer * len(windows) // num_layers] for layer in range(num_layers))
