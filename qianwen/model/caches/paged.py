"""The paged key/value cache: many sequences of any length in pools of blocks (Kwon et al. 2023).

The tokens of all sequences in a step are one row [1, T]. `begin` gets the blocks and the length of each sequence, once
in a step. `attend` then stores the new keys and values in their slots and computes the attention, with PyTorch's
kernels (`parts.py`) or with a fused `kernel`. With `is_invariant` the bits of a token's result depend neither on the
rest of the batch nor on the chunks of its text.

Layers with the same window are one kind. Each kind has its own pool, and each sequence has a block table for each kind.
So blocks behind a window can be freed while layers with full attention keep theirs; in a table such a block is
`ABSENT`. A model whose layers all have the same window has one kind.

Implements `KVCache`. The caller decides which sequence uses which block (`engine/block_manager.py`).
Shapes: T tokens, S sequences, N blocks, b block_size, h query heads, g key/value heads, d head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qianwen.model.caches.parts import Part, Prompt, Span, Step
from qianwen.model.caches.running_attention import RunningAttention
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import TokenRopes, distinct_ropes
from qianwen.model.rope import RotaryEmbedding, apply_rotation
from qianwen.model.rope_state import RopeState

# (q [T, h, d], k_pages and v_pages [N, b, g, d], block_tables [S, n] int32, context_lens [S] int32, query_lens [S]
# int32, scale, window) → [T, h, d]
AttentionKernel = Callable[..., Tensor]
Tables = Sequence[Sequence[int]]  # for each sequence its blocks, in order
ABSENT = -1  # in a table: a block that no later token sees


@dataclass(frozen=True, eq=False)
class Placement:
    """The places of a step's tokens in the pool of one kind of layer."""

    slots: Tensor  # [T] int64, block · b + offset of each new token
    tables: Tensor  # [S, n] int32
    parts: list[Part]  # empty if a fused kernel is used


class PagedCache:
    """Keys and values of `num_blocks` blocks for each kind of layer, and one extra block for padding."""

    length = 0  # not used, because every forward gives its positions
    bare_keys = False  # whether keys are stored without their rotation

    def __init__(
        self,
        config: QwenConfig,
        num_blocks: int | Sequence[int],
        block_size: int = 32,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        kernel: AttentionKernel | None = None,
        is_invariant: bool = False,
    ) -> None:
        """`num_blocks`: one number for all kinds, or one for each in the order of `config.distinct_windows`."""
        self.config, self.block_size = config, block_size
        self.kernel, self.is_invariant = kernel, is_invariant
        self.device = torch.device(device)
        self.rope: RopeState | TokenRopes = RopeState()
        windows = [config.window(layer) for layer in range(config.num_hidden_layers)]
        self.kind_of = [config.distinct_windows.index(window) for window in windows]  # for each layer
        self.num_kinds = len(config.distinct_windows)
        self.num_blocks = [num_blocks] * self.num_kinds if isinstance(num_blocks, int) else list(num_blocks)
        shape = (block_size, config.num_key_value_heads, config.head_dim)
        self.pages = [  # for each kind [its layers, k and v, N + 1, b, g, d]
            zero_pages((self.kind_of.count(kind), 2, count + 1, *shape), self.device, dtype)
            for kind, count in enumerate(self.num_blocks)
        ]
        self._layers = [(k, v, k.flatten(0, 1), v.flatten(0, 1)) for k, v in self.by_layer(self.pages)]
        self._placements: list[Placement] = []  # one for each kind
        self.lengths: tuple[Tensor, Tensor] = (torch.empty(0), torch.empty(0))  # context_lens, query_lens [S] int32

    @property
    def num_bytes(self) -> int:
        """Size of the pools in bytes; on a CPU, blocks that were never used take no memory yet."""
        return sum(pages.numel() * pages.element_size() for pages in self.pages)

    def by_layer(self, pools: Sequence[Tensor]) -> list[Tensor]:
        """The part [2, N + 1, …] of each layer in `pools`, which has one pool for each kind."""
        unread = [iter(pool) for pool in pools]
        return [next(unread[kind]) for kind in self.kind_of]

    def pages_of(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, each [N + 1, b, g, d]."""
        k, v, *_ = self._layers[layer]
        return k, v

    def placement(self, layer: int) -> Placement:
        """The places of the step's tokens in the pool of a layer."""
        return self._placements[self.kind_of[layer]]

    def begin(
        self,
        block_tables: Sequence[Tables],
        context_lens: np.ndarray,
        query_lens: np.ndarray,
        ropes: Sequence[RopeState] = (),
    ) -> np.ndarray:
        """Prepare the next forward and return the positions [T] of its tokens.

        `block_tables`: for each kind, the blocks of each sequence; an empty table is padding, whose results are not
        used. For each sequence, `context_lens` is its length after this step, `query_lens` its number of tokens in this
        step, and `ropes` its rotation (empty: `RopeState()` for all).
        """
        states, numbers = distinct_ropes(ropes or [RopeState()] * len(query_lens))
        is_one = len(states) == 1
        step = Step(context_lens, query_lens, None if is_one else numbers, self.block_size, self.device)
        sequences, positions = step.sequences, step.positions
        self.rope = states[0] if is_one else TokenRopes(states, step.tensor(numbers[sequences]).unsqueeze(0))
        self.lengths = step.tensor(context_lens.astype(np.int32)), step.tensor(query_lens.astype(np.int32))
        self._placements = [
            self._place(step, tables, padding, sequences, positions)
            for tables, padding in zip(block_tables, self.num_blocks, strict=True)
        ]
        return positions

    def _place(
        self, step: Step, block_tables: Tables, padding: int, sequences: np.ndarray, positions: np.ndarray
    ) -> Placement:
        num_blocks = -(-step.context_lens // self.block_size)
        tables = np.full((len(block_tables), int(num_blocks.max())), padding, dtype=np.int32)
        for row, (table, count) in enumerate(zip(block_tables, num_blocks, strict=True)):
            tables[row, : min(len(table), count)] = table[:count]
        # kernels may read keys before the window and multiply them by 0; those of the padding block are finite
        tables[tables == ABSENT] = padding
        blocks, offsets = np.divmod(positions, self.block_size)
        slots = step.tensor(tables[sequences, blocks].astype(np.int64) * self.block_size + offsets)
        parts: list[Part] = []
        if self.kernel is None:
            parts = step.as_answers(tables, padding) if self.is_invariant else step.split(tables, padding)
        return Placement(slots, step.tensor(tables), parts)

    def reserve(self, num_tokens: int) -> None:
        """Does nothing: the caller of `begin` has allocated the blocks."""
        assert num_tokens == len(self._placements[0].slots)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [1, T, g, d] of `layer`; return the attention of q [1, T, h, d]."""
        self.store(layer, k[0], v[0])
        window, placement = self.config.window(layer), self.placement(layer)
        if self.kernel is not None:
            tables, scale = (placement.tables, *self.lengths), self.config.head_dim**-0.5
            return self.kernel(q[0], *self.pages_of(layer), *tables, scale, window or None).unsqueeze(0)
        if len(placement.parts) == 1:
            return self._attend_part(layer, placement.parts[0], q[0], window).unsqueeze(0)
        out = torch.empty_like(q)
        for part in placement.parts:
            out[0, part.tokens] = self._attend_part(layer, part, q[0, part.tokens], window)
        return out

    def _attend_part(self, layer: int, part: Part, q: Tensor, window: int) -> Tensor:
        """The attention of the queries [R, h, d] of a part; a prompt with a long context gathers span after span."""
        if not isinstance(part, Prompt) or len(part.spans) == 1:
            return part.attend(q, *self.gather(layer, part, q.dtype), window)
        first_position = part.context_len - len(q)
        attention = RunningAttention(q, self.config.num_key_value_heads, first_position, window)
        first_seen = max(first_position - window + 1, 0) if window else 0
        for span in part.spans:
            if span.first_key + len(span.blocks) * self.block_size > first_seen:
                k, v = self.gather(layer, span, torch.float32)
                attention.add(k[0], v[0], span.first_key)
        return attention.result()

    def store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Store the step's keys and values [T, g, d] in their slots."""
        (*_, k_slots, v_slots), slots = self._layers[layer], self.placement(layer).slots
        k_slots.index_copy_(0, slots, k.to(k_slots.dtype))
        v_slots.index_copy_(0, slots, v.to(k_slots.dtype))

    def gather(self, layer: int, part: Part | Span, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of each row's blocks in `part`, in order, [R, n·b, g, d] in `dtype`."""
        k, v = (
            pages.index_select(0, part.blocks).flatten(0, 1).to(dtype).unflatten(0, (part.num_rows, -1))
            for pages in self.pages_of(layer)
        )
        return k, v

    def rerotate(self, sources: Tables, targets: Tables, before: RopeState, after: RopeState) -> None:
        """Copy the blocks of a sequence, with keys that were rotated for `before` now rotated for `after`.

        `sources` and `targets` are its block tables, one for each kind; a block may be its own target.
        """
        rotary = RotaryEmbedding(self.config)
        offsets = torch.arange(self.block_size, device=self.device)
        for kind, tables in enumerate(zip(sources, targets, strict=True)):
            table = torch.tensor(tables, device=self.device)  # [2, n]
            rows = (table[0] != ABSENT).nonzero().flatten()
            source, target = table[:, rows]
            positions = rows[:, None] * self.block_size + offsets  # [n, b]
            (old_cos, old_sin), (cos, sin) = (rotary(positions, state).k for state in (before, after))
            for k, v in self.pages[kind]:
                bare = apply_rotation(k[source].float(), old_cos, -old_sin)
                k[target] = apply_rotation(bare, cos, sin).to(k.dtype)
                v[target] = v[source]


def zero_pages(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros, because 0 · NaN of uninitialised memory is NaN; on a CPU pages take no memory until they are written."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * dtype.itemsize), dtype=np.uint8)).view(dtype)
