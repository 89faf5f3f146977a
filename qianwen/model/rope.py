"""Rotary positions: queries and keys are rotated by angles that grow with the position (Su et al. 2021; report, 2.3).

    angle of the pair j at position n = n · base'^(−2j / d)        j < d / 2

`base'` is the rotary base. A text longer than the trained length may have other frequencies, given by its `RopeState`
(`long_context.py`). The two halves of a head are the real and imaginary parts, as in Hugging Face's models.

Shapes: B rows, T tokens, h query heads, g key/value heads, d head_dim.
"""

import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.model.long_context import TokenRopes
from qianwen.model.rope_state import RopeState


class Rotation:
    """Tables of cosines and sines for the tokens of one forward, used by all layers; all [B, T, 1, d] in fp32.

    The first half of `sin` is negated, so the rotation is x · cos + (x with its halves swapped) · sin. Queries have
    separate tables if they are scaled.
    """

    def __init__(self, angles: Tensor, query_scale: Tensor | None) -> None:
        cos, sin = angles.cos(), angles.sin()
        self.k = self.q = torch.cat((cos, cos), -1).unsqueeze(2), torch.cat((-sin, sin), -1).unsqueeze(2)
        if query_scale is not None:
            scale = query_scale[..., None, None]
            self.q = self.k[0] * scale, self.k[1] * scale

    def __call__(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate q [B, T, h, d] and k [B, T, g, d] by the positions of their tokens."""
        return apply_rotation(q, *self.q), apply_rotation(k, *self.k)


def apply_rotation(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., d] rotated by tables of a `Rotation`, computed in fp32; with −sin this is the inverse rotation."""
    wide = x if x.element_size() >= 4 else x.float()
    return torch.addcmul(wide * cos, wide.roll(wide.size(-1) // 2, -1), sin).to(x.dtype)


class RotaryEmbedding:
    """Positions → `Rotation`. Not a module, so that its frequencies stay in fp32 when the model is cast.

    It has no state of a request: the `RopeState` comes from the cache.
    """

    def __init__(self, config: QwenConfig) -> None:
        self.config = config
        self._frequencies: dict[tuple[RopeState, torch.device], Tensor] = {}

    def __call__(self, positions: Tensor, rope: RopeState | TokenRopes) -> Rotation:
        """Tables for `positions` [B, T]; `rope` is one state for all tokens, or a state for each."""
        if isinstance(rope, RopeState):
            return Rotation(
                positions[..., None] * self.frequencies(rope, positions.device), rope.query_scale(positions)
            )
        table = torch.stack([self.frequencies(state, positions.device) for state in rope.states])
        scale: Tensor | None = None
        for number, state in enumerate(rope.states):
            own = state.query_scale(positions)
            if own is not None:
                scale = torch.where(rope.index == number, own, 1.0 if scale is None else scale)
        return Rotation(positions[..., None] * table[rope.index], scale)

    def frequencies(self, rope: RopeState, device: torch.device) -> Tensor:
        """Frequencies [d / 2] of a state, computed once for each state and device."""
        if (rope, device) not in self._frequencies:
            frequencies = rope.frequencies(self.config.rope_theta, self.config.head_dim)
            self._frequencies[rope, device] = frequencies.to(device)
        return self._frequencies[rope, device]
