"""Key/value caches: what a model remembers of the tokens it has read.

`KVCache` is all that the network asks for, so how keys and values are stored (one slab, pages, eight bits) and which of
them a token may see is the cache's business alone. One forward over T new tokens a row makes these calls:

    cache.length           where the rows stand, for positions that were not given
    cache.reserve(T)       room for T more; how a text is rotated is chosen here, once, when its prompt is read
    cache.rope             that choice: one for all tokens, or one for each
    cache.attend(i, …)     in each layer i: store the rotated keys and values, return the attention of the queries

A cache for sequences of different lengths takes all their tokens as one row (B = 1) with explicit positions and keeps
the boundaries to itself. Here: the contiguous cache, whose rows advance together. No gradient flows through it.
"""

from typing import Protocol

import torch
from torch import Tensor

from qianwen.model.attention import attend
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import RopeState, TokenRopes, rope_state
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr


class KVCache(Protocol):
    """The seam between the network and whatever holds its past. h query heads, g key/value heads, d head_dim."""

    @property
    def length(self) -> int:
        """Tokens that a row holds already."""
        ...

    @property
    def rope(self) -> RopeState | TokenRopes:
        """How the tokens of this forward are rotated."""
        ...

    def reserve(self, num_tokens: int) -> None:
        """Make room for `num_tokens` more per row; called once a forward, before the first layer."""
        ...

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [B, T, g, d] of `layer`; return the attention of q [B, T, h, d] over all it may see."""
        ...


class ContiguousCache:
    """Every row at the same length, in one slab of memory that doubles as it fills, up to `max_len` tokens.

    `rope` is how its positions are rotated; without it what the configuration asks for a prompt of the length of the
    first forward, so give it when the prompt comes in chunks.
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
        self.given_rope = rope
        self.rope = rope or RopeState()
        self.length = 0
        self._start = 0  # where the forward under way began
        shape = (config.num_hidden_layers, 2, batch_size, config.num_key_value_heads, 0, config.head_dim)
        self.slab = torch.empty(shape, device=device, dtype=dtype)  # [layers, k and v, B, g, capacity, d]

    def reserve(self, num_tokens: int) -> None:
        """Advance by `num_tokens`; `RequestError` beyond `max_len`, which leaves the cache as it was."""
        needed, capacity = self.length + num_tokens, self.slab.size(4)
        if needed > self.max_len:
            raise RequestError(
                tr(
                    "{needed} tokens do not fit a context of {max_len}; shorten the prompt or ask for fewer new tokens",
                    needed=needed,
                    max_len=self.max_len,
                ),
                code="context_length_exceeded",
            )
        if needed > capacity:
            self._grow(min(max(needed, 2 * capacity, 256), self.max_len))
        if self.length == 0:
            self.rope = self.given_rope or rope_state(self.config, num_tokens)
        self._start, self.length = self.length, needed

    @torch.no_grad()
    def update(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store k and v [B, T, g, d] of the tokens just reserved; return all of the layer's, [B, length, g, d]."""
        stored = self.slab[layer, :, :, :, : self.length]
        stored[0, :, :, self._start :] = k.transpose(1, 2)
        stored[1, :, :, self._start :] = v.transpose(1, 2)
        return stored[0].transpose(1, 2), stored[1].transpose(1, 2)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store, then attend over everything stored. Returns [B, T, h, d]."""
        return attend(q, *self.update(layer, k, v), self.config.window(layer))

    def truncate(self, length: int) -> None:
        """Forget all but the first `length` tokens. Emptied, it chooses its `rope` anew."""
        assert 0 <= length <= self.length
        self.length = length

    def _grow(self, capacity: int) -> None:
        *outer, _, head_dim = self.slab.shape
        slab = self.slab.new_empty((*outer, capacity, head_dim))
        slab[..., : self.length, :] = self.slab[..., : self.length, :]
        self.slab = slab
