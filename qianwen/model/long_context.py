"""Context extension without training (Qwen report, section 2.3.2): which method a text gets, from its length.

    dynamic NTK        a model trained on `train_len` tokens reads longer texts with a larger rotary base, which depends
                       on the power of two above the length
    LogN scaling       the same model scales the queries beyond `train_len`
    rope scaling       YaRN and others by a fixed factor, for all texts or only for those that are too long otherwise
    layer-wise window  low layers attend to a short window, high layers to a long one

A model's configuration chooses the methods; a request may choose others (`LongContext`). The result is a `RopeState`
(`rope_state.py`). All functions here are pure functions of lengths; `rope.py` and the caches apply the states. Training
on longer sequences is the recipe `extend`.

Shapes: B rows, T tokens.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

Extension = Literal["auto", "none", "dynamic_ntk", "yarn", "linear"]
OnGrowth = Literal["exact", "rerotate", "fixed"]  # see `engine/growth.py`
NTK_REACH = 8  # times the trained length: the longest text of the memo's table, 16,384 tokens of a model for 2,048


@dataclass(frozen=True, kw_only=True)
class LongContext:
    """How a request extends the trained length. The default is what the model's configuration says.

    >>> LongContext(rope="dynamic_ntk", logn=True)
    """

    rope: Extension = "auto"  # auto: the methods of the model's configuration
    factor: float = 4.0  # of yarn and linear: longest text / trained length
    logn: bool | None = None  # whether LogN scales queries; None: as in the model's configuration
    on_growth: OnGrowth = "exact"  # what to do if an answer grows so long that its text needs another state

    def __post_init__(self) -> None:
        for name, value, known in (
            ("rope", self.rope, get_args(Extension)),
            ("on_growth", self.on_growth, get_args(OnGrowth)),
        ):
            if value not in known:
                message = "{field} = {value} is not a valid value; known: {known}"
                raise ConfigError(tr(message, field=name, value=repr(value), known=", ".join(known)))
        if not 1 <= self.factor < math.inf:
            raise ConfigError(tr("{field} = {value} is not a valid value", field="factor", value=self.factor))


AS_CONFIGURED = LongContext()


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


def rope_state(config: QwenConfig, seq_len: int, extension: LongContext = AS_CONFIGURED) -> RopeState:
    """The state of a text of `seq_len` tokens. ConfigError if `extension` does not fit the model."""
    is_scaled = config.use_logn_attn if extension.logn is None else extension.logn
    state = _rotation(config, seq_len, extension)
    return replace(state, logn_len=config.train_len) if is_scaled else state


def _rotation(config: QwenConfig, seq_len: int, extension: LongContext) -> RopeState:
    always = RopeState() if config.scaling_from else config.rope_scaling  # the model was trained with it
    method, factor = extension.rope, extension.factor
    if method == "auto" and config.use_dynamic_ntk:
        method = "dynamic_ntk"
    if method == "auto":
        return _scaled(config.rope_scaling, seq_len) if seq_len > config.scaling_from else always
    if method == "none":
        return always
    if always.method != "none":
        message = "this model was trained with {trained}, so rope {method} cannot be added: use auto or none"
        raise ConfigError(tr(message, trained=always.method, method=method))
    if seq_len <= config.train_len:
        return RopeState()
    if method == "dynamic_ntk":
        return RopeState(method=method, factor=ntk_alpha(seq_len, config.train_len))
    return RopeState(method=method, factor=factor, original_len=config.train_len)


def _scaled(scaling: RopeState, seq_len: int) -> RopeState:
    """The state of a model's scaling for a text that it acts on. Hugging Face's `dynamic` depends on the length."""
    if scaling.method != "dynamic_ntk":
        return scaling
    alpha = scaling.factor * seq_len / scaling.original_len - (scaling.factor - 1)
    return RopeState(method="dynamic_ntk", factor=alpha)


def state_end(config: QwenConfig, seq_len: int, extension: LongContext = AS_CONFIGURED) -> float:
    """The length of the longest text with the state of a text of `seq_len` tokens; inf: all longer texts have it."""
    state = rope_state(config, seq_len, extension)
    doubling = config.train_len * 2 ** max(math.ceil(math.log2(seq_len / config.train_len)), 0)
    ends = (end for end in sorted((seq_len, doubling, config.scaling_from)) if end >= seq_len)
    return next((end for end in ends if rope_state(config, end + 1, extension) != state), math.inf)


def covered_len(config: QwenConfig, extension: LongContext = AS_CONFIGURED) -> int:
    """The longest text in tokens that a method covers; `auto`: what the model's files claim; `none`: `train_len`."""
    if extension.rope == "auto":
        return config.max_position_embeddings
    factor = {"none": 1.0, "dynamic_ntk": NTK_REACH}.get(extension.rope, extension.factor)
    return int(config.train_len * factor)


def ntk_alpha(seq_len: int, train_len: int) -> int:
    """Stretch factor for an input of `seq_len`: 1 up to `train_len`, then 3, 7, 15, …

    It depends on the power of two above the length, so it is constant between doublings.
    """
    return max(2 ** math.ceil(math.log2(seq_len / train_len) + 1) - 1, 1) if seq_len > train_len else 1


def layer_windows(num_layers: int, windows: list[int]) -> tuple[int, ...]:
    """A window for each layer: the layers are divided into equal groups, which get `windows` from low to high.

    A window of 0 is full attention. The report gives the rule (lower layers are more sensitive, so their windows are
    shorter) but no numbers; an example is `layer_windows(32, [2048, 4096, 0])`.
    """
    if not 0 < len(windows) <= num_layers:
        message = "{count} windows do not fit {layers} layers: give at least 1 and at most {layers}"
        raise ConfigError(tr(message, count=len(windows), layers=num_layers))
    return tuple(windows[layer * len(windows) // num_layers] for layer in range(num_layers))
