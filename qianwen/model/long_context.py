"""Context extension without training (Qwen report, section 2.3.2), and the RoPE scaling methods of other families.

A model trained on `train_len` tokens can read longer inputs if its positions or its attention change a little:

    dynamic_ntk        increase the rotary base with the length of the input: low frequencies fall, high ones stay
    linear             divide every frequency by `factor` (Chen et al. 2023)
    yarn               divide the low frequencies, keep the high ones, and sharpen attention (Peng et al. 2023)
    llama3             the same idea with bounds on wavelengths (Llama 3.1)
    LogN scaling       multiply the query at position n > train_len by log(n) / log(train_len)
    layer-wise window  low layers attend to a short window, high layers to a long one

`RopeState` is the method and its parameters for one text. It is chosen once, when the prompt is read, and stays fixed
while the text grows, because stored keys were rotated with it. All functions here are pure functions of lengths and
positions; `rope.py` and the caches apply them. Training on longer sequences is the recipe `extend`.

Shapes: B rows, T tokens, d head_dim.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

RopeMethod = Literal["none", "dynamic_ntk", "yarn", "linear", "llama3"]


@dataclass(frozen=True, kw_only=True)
class RopeState:
    """How the positions of one text are rotated, and how its queries are scaled. Checked on construction.

    >>> RopeState(method="yarn", factor=4, original_len=32768)
    """

    method: RopeMethod = "none"
    factor: float = 1.0  # dynamic_ntk: alpha, see `ntk_base`; yarn, linear, llama3: new length / original length
    original_len: int = 0  # tokens, the trained length; required for yarn and llama3
    logn_len: int = 0  # tokens, the length beyond which LogN scales queries; 0: no LogN
    attention_factor: float = 0.0  # yarn: both queries and keys are multiplied by it; 0: 0.1 · ln(factor) + 1
    beta_fast: float = 32.0  # yarn: pairs that turn more often than this within original_len keep their frequency
    beta_slow: float = 1.0  # yarn: pairs that turn less often are divided by factor
    truncate: bool = True  # yarn: round both bounds outwards to integer pair indices
    low_freq_factor: float = 1.0  # llama3: wavelengths above original_len / this are divided by factor
    high_freq_factor: float = 4.0  # llama3: wavelengths below original_len / this do not change

    def __post_init__(self) -> None:
        if self.method not in get_args(RopeMethod):
            known = ", ".join(get_args(RopeMethod))
            raise ConfigError(tr("there is no rope method {name!r}; known: {known}", name=self.method, known=known))
        for field in fields(self):
            if field.type == "float":  # 4 and 4.0 have different texts, but equal states must have equal hashes
                object.__setattr__(self, field.name, float(getattr(self, field.name)))
        valid = {
            "factor": 1 <= self.factor < math.inf,
            "original_len": self.original_len > 0 or self.method not in ("yarn", "llama3"),
            "logn_len": self.logn_len == 0 or self.logn_len > 1,
            "attention_factor": 0 <= self.attention_factor < math.inf,
            "beta_fast": self.beta_slow <= self.beta_fast < math.inf,
            "beta_slow": self.beta_slow > 0,
            "low_freq_factor": self.low_freq_factor > 0,
            "high_freq_factor": self.low_freq_factor < self.high_freq_factor < math.inf,
        }
        for name, is_valid in valid.items():
            if not is_valid:
                raise ConfigError(tr("{field} = {value} is not a valid value", field=name, value=getattr(self, name)))

    @property
    def temperature(self) -> float:
        """YaRN's factor of queries and keys (`mscale`); 1 for every other method."""
        if self.method != "yarn":
            return 1.0
        return self.attention_factor or 0.1 * math.log(self.factor) + 1

    def frequencies(self, base: float, head_dim: int) -> Tensor:
        """The angle between consecutive positions for each pair of a head, [d / 2] fp32."""
        if self.method == "dynamic_ntk":
            base = ntk_base(base, self.factor, head_dim)
        frequencies = 1.0 / base ** (torch.arange(0, head_dim, 2).float() / head_dim)
        if self.method == "linear":
            return frequencies / self.factor
        if self.method == "yarn":
            stretched = self._yarn_share(base, head_dim)
            return frequencies / self.factor * stretched + frequencies * (1 - stretched)
        if self.method == "llama3":
            turns = self.original_len * frequencies / (2 * math.pi)
            smooth = (turns - self.low_freq_factor) / (self.high_freq_factor - self.low_freq_factor)
            smooth = smooth.clamp(0, 1)
            return (1 - smooth) * frequencies / self.factor + smooth * frequencies
        return frequencies

    def query_scale(self, positions: Tensor) -> Tensor | None:
        """The factor of the queries at `positions` [B, T]; None: no scaling.

        YaRN scales queries and keys by its temperature. Here the queries get the square and the keys nothing, so that
        the stored keys differ from the projected keys only by a rotation.
        """
        scale = logn_scale(positions, self.logn_len) if self.logn_len else None
        if self.temperature == 1:
            return scale
        squared = self.temperature**2
        return torch.full(positions.shape, squared, device=positions.device) if scale is None else scale * squared

    def _yarn_share(self, base: float, head_dim: int) -> Tensor:
        """Weight of the divided frequency of each pair: 0 for the fastest pairs, 1 for the slowest."""

        def pair_with_turns(count: float) -> float:  # (fractional) index of the pair with `count` turns in original_len
            return head_dim * math.log(self.original_len / (count * 2 * math.pi)) / (2 * math.log(base))

        low, high = pair_with_turns(self.beta_fast), pair_with_turns(self.beta_slow)
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, head_dim - 1)
        width = high - low or 0.001
        return ((torch.arange(head_dim // 2, dtype=torch.float32) - low) / width).clamp(0, 1)


@dataclass(frozen=True, eq=False)
class TokenRopes:
    """The states of several texts in one forward: the state of a token is `states[index]` at its position."""

    states: tuple[RopeState, ...]
    index: Tensor  # int64, broadcasts to the positions [B, T]


def distinct_ropes(ropes: Sequence[RopeState]) -> tuple[tuple[RopeState, ...], np.ndarray]:
    """The different states in `ropes`, and for each entry of `ropes` the index of its state."""
    states = tuple(dict.fromkeys(ropes))
    if len(states) == 1:
        return states, np.zeros(len(ropes), dtype=np.int64)
    numbers = {state: number for number, state in enumerate(states)}
    return states, np.array([numbers[state] for state in ropes])


def rope_state(config: QwenConfig, seq_len: int) -> RopeState:
    """The state that a model's configuration gives for a prompt of `seq_len` tokens."""
    alpha = ntk_alpha(seq_len, config.train_len) if config.use_dynamic_ntk else 1
    logn_len = config.train_len if config.use_logn_attn else 0
    return RopeState(method="dynamic_ntk" if alpha > 1 else "none", factor=alpha, logn_len=logn_len)


def ntk_alpha(seq_len: int, train_len: int) -> int:
    """Stretch factor for an input of `seq_len`: 1 up to `train_len`, then 3, 7, 15, …

    It depends on the power of two above the length, so it is constant between doublings.
    """
    return max(2 ** math.ceil(math.log2(seq_len / train_len) + 1) - 1, 1) if seq_len > train_len else 1


def ntk_base(base: float, alpha: float, head_dim: int) -> float:
    """The rotary base that divides the lowest frequency by `alpha` and keeps the highest."""
    return base * alpha ** (head_dim / (head_dim - 2))


def logn_scale(positions: Tensor, train_len: int) -> Tensor:
    """The factor of each query: log(n) / log(train_len) for the n-th token, and 1 up to `train_len`.

    `positions` count from 0, so n = position + 1. Attention over more keys is flatter; the factor sharpens it again.
    """
    count = (positions + 1).float()
    return torch.where(count > train_len, count.log() / math.log(train_len), 1.0)


def layer_windows(num_layers: int, windows: list[int]) -> tuple[int, ...]:
    """A window for each layer: the layers are divided into equal groups, which get `windows` from low to high.

    A window of 0 is full attention. The report gives the rule (lower layers are more sensitive, so their windows are
    shorter) but no numbers; an example is `layer_windows(32, [2048, 4096, 0])`.
    """
    if not 0 < len(windows) <= num_layers:
        message = "{count} windows do not fit {layers} layers: give at least 1 and at most {layers}"
        raise ConfigError(tr(message, count=len(windows), layers=num_layers))
    return tuple(windows[layer * len(windows) // num_layers] for layer in range(num_layers))
