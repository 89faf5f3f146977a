"""How the rotary positions of one text are changed: the methods of the Qwen report (section 2.3.2) and other families.

    dynamic_ntk        increase the rotary base: low frequencies fall, high ones stay
    linear             divide every frequency by `factor` (Chen et al. 2023)
    yarn               divide the low frequencies, keep the high ones, and sharpen attention (Peng et al. 2023)
    llama3             the same idea with bounds on wavelengths (Llama 3.1)
    LogN scaling       multiply the query of the n-th token by log(n) / log(train_len), from train_len on; in a network
                       that was trained with it, from the first token on

`RopeState` is the method with its parameters. All tokens of a text that the cache holds have the same state, because
stored keys were rotated with it. Which state a text gets is decided in `long_context.py`.

Shapes: B rows, T tokens, d head_dim.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

import torch
from torch import Tensor

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
    logn_from_start: bool = False  # LogN also scales the queries within logn_len, by factors below 1
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
        scale = logn_scale(positions, self.logn_len, from_start=self.logn_from_start) if self.logn_len else None
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


def ntk_base(base: float, alpha: float, head_dim: int) -> float:
    """The rotary base that divides the lowest frequency by `alpha` and keeps the highest."""
    return base * alpha ** (head_dim / (head_dim - 2))


def logn_scale(positions: Tensor, train_len: int, *, from_start: bool = False) -> Tensor:
    """The factor of each query: log(n) / log(train_len) for the n-th token; up to `train_len` it is 1.

    With `from_start` the formula holds there too: 0 for the first token, which has only one key, 1 for the last.
    `positions` count from 0, so n = position + 1. Attention over more keys is flatter; the factor sharpens it again.
    """
    count = (positions + 1).float()
    scale = count.log() / math.log(train_len)
    return scale if from_start else torch.where(count > train_len, scale, 1.0)
