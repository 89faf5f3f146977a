"""The paged cache in eight bits: half the memory of bfloat16, so twice as much text in the same memory.

    x ≈ code · scale + low       code uint8; scale and low fp16, from the minimum and maximum of each token's head

The released int8 cache has one scale for a prompt, truncates instead of rounding, and divides by zero if all values are
equal. Here each head of each token has its own scale, codes are rounded, and equal values are restored exactly.

Keys are stored without bias and rotation: both are removed before rounding and added again when keys are read. Both
widen the range of a head's values (biases of trained models reach hundreds, and rotation mixes them into other
dimensions), so the quantisation step would be coarse. `bare_keys=False` stores keys with bias and rotation, for
comparison.

A `KVCache`. Shapes: T tokens of a step, R rows of a part, n blocks, b block_size, g key/value heads, d head_dim.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qianwen.model.caches.paged import PagedCache, zero_pages
from qianwen.model.caches.parts import Part, Span
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import TokenRopes
from qianwen.model.rope import RotaryEmbedding, apply_rotation

STEPS = 255
LARGEST = torch.finfo(torch.float16).max

Tables = tuple[Tensor, Tensor]  # cosines and sines


class Int8PagedCache(PagedCache):
    """Keys and values of `num_blocks` blocks in eight bits; `biases` [g · d] of the key projection of each layer."""

    def __init__(
        self,
        config: QwenConfig,
        num_blocks: int | Sequence[int],
        block_size: int = 32,
        device: torch.device | str = "cpu",
        *,
        biases: Sequence[Tensor | None] = (),
        bare_keys: bool = True,
        is_invariant: bool = False,
    ) -> None:
        super().__init__(config, num_blocks, block_size, device, torch.uint8, is_invariant=is_invariant)
        self.bare_keys = bare_keys
        # fp16 scale and low for each kind [its layers, k and v, N + 1, b, g, 2]
        self.grids = [zero_pages((*pages.shape[:-1], 2), self.device, torch.float16) for pages in self.pages]
        self._grids_of = self.by_layer(self.grids)  # for each layer [k and v, N + 1, b, g, 2]
        heads = config.num_key_value_heads
        per_layer = list(biases) or [None] * config.num_hidden_layers
        self.biases = [None if bias is None else bias.detach().float().view(heads, -1) for bias in per_layer]
        self._rotary = RotaryEmbedding(config)
        self._rotations: dict[int | None, Tables] = {}  # None: of the step's tokens; else of the keys of a part

    @property
    def num_bytes(self) -> int:
        return super().num_bytes + sum(grids.numel() * grids.element_size() for grids in self.grids)

    def begin(self, *args: Any, **kwargs: Any) -> np.ndarray:
        """As `PagedCache.begin`."""
        positions = super().begin(*args, **kwargs)
        self._rotations = {None: self._rotary(torch.from_numpy(positions).to(self.device)[None], self.rope).k}
        return positions

    def store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Quantise the step's keys and values [T, g, d] and store them in their slots."""
        if self.bare_keys:
            cos, sin = self._rotations[None]
            k = apply_rotation(k.float(), cos[0], -sin[0])
            if (bias := self.biases[layer]) is not None:
                k = k - bias
        slots = self.placement(layer).slots
        for x, pages, grids in zip((k, v), self.pages_of(layer), self._grids_of[layer], strict=True):
            codes, grid = encode(x)
            pages.flatten(0, 1).index_copy_(0, slots, codes)
            grids.flatten(0, 1).index_copy_(0, slots, grid)

    def gather(self, layer: int, part: Part | Span, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys, with bias and rotation, and values of a part's blocks, [R, n·b, g, d] in `dtype`."""
        k, v = (
            decode(pages.index_select(0, part.blocks), grids.index_select(0, part.blocks))
            .flatten(0, 1)
            .unflatten(0, (part.num_rows, -1))
            for pages, grids in zip(self.pages_of(layer), self._grids_of[layer], strict=True)
        )
        if self.bare_keys:
            if (bias := self.biases[layer]) is not None:
                k += bias
            k = apply_rotation(k, *self._rotation_of(part, k.size(1)))
        return k.to(dtype), v.to(dtype)

    def _rotation_of(self, part: Part | Span, num_keys: int) -> Tables:
        """The rotation of `num_keys` keys from `part.first_key` on, for each row or for all rows together."""
        if id(part) not in self._rotations:
            positions = part.first_key + torch.arange(num_keys, device=self.device)[None]
            rope = self.rope
            if isinstance(rope, TokenRopes):
                assert part.ropes is not None
                rope = TokenRopes(rope.states, part.ropes[:, None].expand(-1, num_keys))
            self._rotations[id(part)] = self._rotary(positions, rope).k
        return self._rotations[id(part)]


def encode(x: Tensor) -> tuple[Tensor, Tensor]:
    """[..., d] → uint8 codes and the grid fp16 [..., 2]: the scale and the value of code 0."""
    x = x.float()
    low, high = x.aminmax(dim=-1, keepdim=True)
    low = low.clamp(-LARGEST, LARGEST).half()
    scale = ((high - low.float()) / STEPS).clamp(0, LARGEST).half()
    step = torch.where(scale > 0, scale, torch.inf).float()  # equal values: every code is 0, every value `low`
    codes = ((x - low.float()) / step).round_().clamp_(0, STEPS).to(torch.uint8)
    return codes, torch.cat((scale, low), dim=-1)


def decode(codes: Tensor, grid: Tensor) -> Tensor:
    """The inverse of `encode`, fp32 [..., d]."""
    scale, low = grid.float().split(1, dim=-1)
    return codes.float().mul_(scale).add_(low)
