"""The interface `KVCache` of key/value caches, and the contiguous cache, whose rows all have the same length.

The network uses only `KVCache`. So only the cache decides how keys and values are stored (one tensor, blocks, eight
bits) and which of them a token sees. One forward over T new tokens per row makes these calls:

    cache.length           the number of tokens in a row, to compute positions that are not given
    cache.reserve(T)       make room for T more tokens; the first call also chooses how the text is rotated
    cache.rope             that choice: one state for all tokens, or one for each
    cache.attend(i, …)     in each layer i: store the rotated keys and values, return the attention of the queries

A cache for sequences of different lengths gets all their tokens as one row (B = 1) with explicit positions, and it
knows the boundaries itself. The contiguous cache passes no gradient to earlier tokens.
"""

from typing import Protocol

import torch
from torch import Tensor

from qianwen.model.attention import attend
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import TokenRopes, rope_state
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr


class KVCache(Protocol):
    """The interface between the network and its cache. h query heads, g key/value heads, d head_dim."""

    @property
    def length(self) -> int:
        """Number of tokens that each row already holds."""
        ...

    @property
    def rope(self) -> RopeState | TokenRopes:
        """How the positions of this forward's tokens are rotated."""
        ...

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` more per row; called once in a forward, before the first layer."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [B, T, g, d] of `layer`; return the attention of q [B, T, h, d] over all visible tokens."""
        ...


class ContiguousCache:
    """Rows of the same length in one tensor, which doubles when it is full, up to `max_len` tokens.

    `rope` is the rotation of positions. The default is what the configuration gives for the length of the first
    forward, so set it if the prompt comes in chunks.
    """

    def __init__(
        self,
        config: QwenConfig,
        batch_size: int = 1,
        max_len: int = 0,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        rope: RopeState | None = None,
    ) -> None:
        self.config = config
        self.max_len = max_len or config.max_position_embeddings
        self.fixed_rope = rope
        self.rope = rope or RopeState()
        self.length = 0
        self._start = 0  # length before the current forward
        shape = (config.num_hidden_layers, 2, batch_size, config.num_key_value_heads, 0, config.head_dim)
        self.slab = torch.empty(shape, device=device, dtype=dtype)  # [layers, k and v, B, g, capacity, d]

    def reserve(self, num_tokens: int) -> None:
        """Advance by `num_tokens`. `RequestError` if that exceeds `max_len`; then the cache does not change."""
        needed, capacity = self.length + num_tokens, self.slab.size(4)
        if needed > self.max_len:
            raise RequestError(
                tr(
                    "{needed} tokens do not fit the context of {max_len}: shorten the prompt or generate fewer tokens",
                    needed=needed,
                    max_len=self.max_len,
                ),
                code="context_length_exceeded",
            )
        if needed > capacity:
            self._grow(min(max(needed, 2 * capacity, 256), self.max_len))
        if self.length == 0:
            self.rope = self.fixed_rope or rope_state(self.config, num_tokens)
        self._start, self.length = self.length, needed

    @torch.no_grad()
    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, T, g, d] of the reserved tokens; return all that the layer holds, [B, length, g, d]."""
        stored = self.slab[layer, :, :, :, : self.length]
        stored[0, :, :, self._start :] = k.transpose(1, 2)
        stored[1, :, :, self._start :] = v.transpose(1, 2)
        return stored[0].transpose(1, 2), stored[1].transpose(1, 2)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store, then attend over everything stored. Returns [B, T, h, d]."""
        return attend(q, *self.update(layer, k, v), self.config.window(layer))

    def truncate(self, length: int) -> None:
        """Drop all but the first `length` tokens. If it is 0, the next forward chooses `rope` again."""
        assert 0 <= length <= self.length
        self.length = length

    def _grow(self, capacity: int) -> None:
        *outer, _, head_dim = self.slab.shape
        slab = self.slab.new_empty((*outer, capacity, head_dim))
        slab[..., : self.length, :] = self.slab[..., : self.length, :]
        self.slab = slab
