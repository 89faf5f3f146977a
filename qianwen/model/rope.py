"""Rotary positions: queries and keys are turned by angles that grow with the position (Su et al. 2021; report, 2.3).

    angle of the pair j at position n = n · base'^(−2j / d)        j < d / 2

`base'` is the rotary base, raised where a request reads more than the trained length (`long_context.py`). The two
halves of a head are the real and imaginary parts, as in Hugging Face's models.

Shapes: B rows, T tokens, h query heads, g key/value heads, d head_dim.
"""

import torch
from torch import Tensor

from qianwen.model.config import QwenConfig
from qianwen.model.long_context import logn_scale, ntk_base


class Rotation:
    """The rotary angles of one forward's tokens, ready for every layer; all [B, T, 1, d] in fp32.

    The two halves of a head are the real and imaginary parts. `sin` carries the minus of its first half, so that
    turning is x · cos + (halves swapped) · sin. Queries have tables of their own when LogN scales them.
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

    Nothing here belongs to a request: the stretch `alpha` comes from the cache.
    """

    def __init__(self, config: QwenConfig) -> None:
        self.config = config
        self._frequencies: dict[tuple[int, torch.device], Tensor] = {}

    def __call__(self, positions: Tensor, alpha: int | Tensor | None = None) -> Rotation:
        """`positions` [B, T]; `alpha` an int, a tensor that broadcasts to them, or None: no NTK, no LogN."""
        if isinstance(alpha, Tensor):
            distinct, which = alpha.unique(return_inverse=True)
            table = torch.stack([self.frequencies(value, positions.device) for value in distinct.tolist()])
            frequencies = table[which]
        else:
            frequencies = self.frequencies(alpha or 1, positions.device)
        has_logn = self.config.use_logn_attn and alpha is not None
        query_scale = logn_scale(positions, self.config.train_len) if has_logn else None
        return Rotation(positions[..., None] * frequencies, query_scale)

    def frequencies(self, alpha: int, device: torch.device) -> Tensor:
        """base'^(-2j/d) for j < d/2, kept for each stretch and device."""
        if (alpha, device) not in self._frequencies:
            dim = self.config.head_dim
            base = ntk_base(self.config.rope_theta, alpha, dim)
            self._frequencies[alpha, device] = (1.0 / base ** (torch.arange(0, dim, 2).float() / dim)).to(device)
        return self._frequencies[alpha, device]
