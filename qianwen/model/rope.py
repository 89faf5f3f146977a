"""Rotary positions: queries and keys are turned by angles that grow with the position (Su et al. 2021; report, 2.3).

    angle of the pair j at position n = n · base'^(−2j / d)        j < d / 2

`base'` is the rotary base. A text longer than the trained length may have other frequencies: its `RopeState` says
which (`long_context.py`). The two halves of a head are the real and imaginary parts, as in Hugging Face's models.

Shapes: B rows, T tokens, h query heads, g key/value heads, d head_dim.
"""

import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.model.long_context import RopeState, TokenRopes


class Rotation:
    """The rotary angles of one forward's tokens, ready for every layer; all [B, T, 1, d] in fp32.

    The two halves of a head are the real and imaginary parts. `sin` carries the minus of its first half, so that
    turning is x · cos + (halves swapped) · sin. Queries have tables of their own when something scales them.
    """

    def __init__(self, angles: Tensor, query_scale: Tensor | None) -> None:
        cos, sin = angles.cos(), angles.sin()
        self.k = self.q = torch.cat((cos, cos), -1).unsqueeze(2), torch.cat((-sin, sin), -1).unsqueeze(2)
        if query_scale is not None:
            scale = query_scale[..., None, None]
            self.q = self.k[0] * scale, self.k[1] * scale

    def __call__(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """Rotate q [B, T, h, d] and k [B, T, g, d] by their tokens' positions."""
        return turned(q, *self.q), turned(k, *self.k)


def turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x [..., d] rotated by a `Rotation`'s tables, in fp32 and back; with −sin it is undone."""
    wide = x if x.element_size() >= 4 else x.float()
    return torch.addcmul(wide * cos, wide.roll(wide.size(-1) // 2, -1), sin).to(x.dtype)


class RotaryEmbedding:
    """Positions → `Rotation`. Not a module, so its fp32 frequencies stay exact whatever the model is cast to.

    Nothing here belongs to a request: its `RopeState` comes from the cache.
    """

    def __init__(self, config: QwenConfig) -> None:
        self.config = config
        self._frequencies: dict[tuple[RopeState, torch.device], Tensor] = {}

    def __call__(self, positions: Tensor, rope: RopeState | TokenRopes) -> Rotation:
        """`positions` [B, T]; `rope` one state for all of them, or the state of each."""
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
        """[d / 2], computed once for each state and device."""
        if (rope, device) not in self._frequencies:
            frequencies = rope.frequencies(self.config.rope_theta, self.config.head_dim)
            self._frequencies[rope, device] = frequencies.to(device)
        return self._frequencies[rope, device]
