"""The paged key/value cache: many sequences of any length in one pool of blocks (Kwon et al. 2023).

All tokens of a step, whoever they belong to, come as one row [1, T]. `begin` is told once a step where each sequence's
blocks are and how far it reaches; `attend` then stores the new keys and values in their slots and attends

    answers   (one token a sequence)   together: their blocks gathered into a padded view, masked, in groups of
                                       similar length, so that padding at most doubles the work
    prompts   (a chunk a sequence)     one after another, causally, after what the cache holds of each

with PyTorch's kernels, or hands both to a fused `kernel`. With `is_invariant` every token is treated as an answer and
padded by its own length alone, so its result has the same bits whatever runs beside it and however it was chunked.

Implements `KVCache`. Which block belongs to whom is the caller's business (`engine/block_manager.py`).
Shapes: T tokens, S sequences, N blocks, b block_size, h query heads, g key/value heads, d head_dim.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from qianwen.model.attention import attend, scaled_dot_product
from qianwen.model.config import QwenConfig

# (q [T, h, d], k_pages and v_pages [N, b, g, d], block_tables [S, n] int32, context_lens [S] int32, query_lens [S]
# int32, scale, window) → [T, h, d]
AttentionKernel = Callable[..., Tensor]


class _Answers:
    """Tokens of a step, each the last of its own context; their blocks are padded to one number."""

    def __init__(self, tokens: slice | Tensor, tables: Tensor, lengths: Tensor, is_uniform: bool) -> None:
        """`tokens` says which of the T; `tables` [R, n]; `lengths` [R]; uniform: all of one length, so none masked."""
        self.tokens, self.lengths = tokens, lengths
        self.num_rows, self.blocks = len(tables), tables.flatten()
        self.alphas: Tensor | None = None  # stretch of each row, where they differ from one
        self.common_len = int(lengths[0]) if is_uniform else 0
        self._masks: dict[tuple[int, int], Tensor] = {}

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q [R, h, d], k and v [R, n·b, g, d] → [R, h, d]."""
        mask = None
        if self.common_len:
            first = max(self.common_len - window, 0) if window else 0
            k, v = k[:, first : self.common_len], v[:, first : self.common_len]
        else:
            mask = self._mask(k.size(1), window, q.dtype)
        q = q.unflatten(1, (k.size(2), -1))  # heads that share keys become the queries [R, g, h/g, d]
        return scaled_dot_product(q, k.transpose(1, 2), v.transpose(1, 2), mask).flatten(1, 2)

    def _mask(self, num_keys: int, window: int, dtype: torch.dtype) -> Tensor:
        """Additive mask [R, 1, 1, num_keys], made once a step."""
        if (num_keys, window) not in self._masks:
            back = self.lengths[:, None] - 1 - torch.arange(num_keys, device=self.lengths.device)
            hidden = (back < 0) | (back >= window) if window else back < 0
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
            self._masks[num_keys, window] = mask[:, None, None]
        return self._masks[num_keys, window]


class _Prompt:
    """Tokens of a step that are the last of one sequence's `context_len`."""

    num_rows = 1

    def __init__(self, tokens: slice, blocks: Tensor, context_len: int) -> None:
        self.tokens, self.blocks, self.context_len = tokens, blocks, context_len
        self.alphas: Tensor | None = None

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q [R, h, d], k and v [1, n·b, g, d] → [R, h, d]."""
        return attend(q.unsqueeze(0), k[:, : self.context_len], v[:, : self.context_len], window)[0]


Part = _Answers | _Prompt
AnyPart = TypeVar("AnyPart", _Answers, _Prompt)


class PagedCache:
    """Keys and values of `num_blocks` blocks; one more takes the padding's."""

    length = 0  # every forward gives its positions

    def __init__(
        self,
        config: QwenConfig,
        num_blocks: int,
        block_size: int = 32,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        *,
        kernel: AttentionKernel | None = None,
        is_invariant: bool = False,
    ) -> None:
        self.config, self.num_blocks, self.block_size = config, num_blocks, block_size
        self.kernel, self.is_invariant = kernel, is_invariant
        self.device = torch.device(device)
        self.alpha: int | Tensor = 1
        heads = (config.num_key_value_heads, config.head_dim)
        self.pages = zero_pages((config.num_hidden_layers, 2, num_blocks + 1, block_size, *heads), self.device, dtype)
        views = [self.pages[layer, which] for layer in range(config.num_hidden_layers) for which in (0, 1)]
        self._layers = [(k, v, k.flatten(0, 1), v.flatten(0, 1)) for k, v in zip(views[::2], views[1::2], strict=True)]
        self._slots = torch.empty(0, dtype=torch.int64)
        self._parts: list[Part] = []
        self._alphas: np.ndarray | None = None  # of each sequence of the step
        self._tables: tuple[Tensor, ...] = ()  # block_tables, context_lens, query_lens

    @property
    def num_bytes(self) -> int:
        """Size of the pool; untouched blocks on a CPU take no memory yet."""
        return self.pages.numel() * self.pages.element_size()

    def begin(
        self,
        block_tables: Sequence[Sequence[int]],
        context_lens: np.ndarray,
        query_lens: np.ndarray,
        alphas: np.ndarray | None = None,
    ) -> np.ndarray:
        """Describe the next forward: for each sequence its blocks, its length after this step, its tokens in it.

        Returns the positions [T] of those tokens. An empty table marks padding, whose results nobody reads.
        """
        num_blocks = -(-context_lens // self.block_size)
        tables = np.full((len(block_tables), int(num_blocks.max())), self.num_blocks, dtype=np.int32)
        for row, (table, count) in enumerate(zip(block_tables, num_blocks, strict=True)):
            tables[row, : min(len(table), count)] = table[:count]
        rows = np.repeat(np.arange(len(query_lens)), query_lens)
        ends = np.cumsum(query_lens)
        positions = np.arange(ends[-1]) - np.repeat(ends - context_lens, query_lens)
        blocks, offsets = np.divmod(positions, self.block_size)
        self._slots = self._tensor(tables[rows, blocks].astype(np.int64) * self.block_size + offsets)
        self.alpha, self._alphas = 1, alphas
        if alphas is not None:
            same = alphas.min() == alphas.max()
            self.alpha = int(alphas[0]) if same else self._tensor(alphas[rows]).unsqueeze(0)
        if self.kernel is not None:
            arrays = (tables, context_lens.astype(np.int32), query_lens.astype(np.int32))
            self._tables = tuple(map(self._tensor, arrays))
        elif self.is_invariant:
            self._parts = [*self._group(tables, rows, positions + 1, np.arange(len(rows)))]
        else:
            self._parts = self._split(tables, context_lens, query_lens)
        return positions

    def reserve(self, num_tokens: int) -> None:
        """Room was made by whoever called `begin`."""
        assert num_tokens == len(self._slots)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store k and v [1, T, g, d] of `layer`; return the attention of q [1, T, h, d]."""
        self.store(layer, k[0], v[0])
        window = self.config.window(layer)
        if self.kernel is not None:
            scale, (k_pages, v_pages, *_) = self.config.head_dim**-0.5, self._layers[layer]
            return self.kernel(q[0], k_pages, v_pages, *self._tables, scale, window or None).unsqueeze(0)
        if len(self._parts) == 1:
            return self._parts[0].attend(q[0], *self.gather(layer, self._parts[0], q.dtype), window).unsqueeze(0)
        out = torch.empty_like(q)
        for part in self._parts:
            out[0, part.tokens] = part.attend(q[0, part.tokens], *self.gather(layer, part, q.dtype), window)
        return out

    def store(self, layer: int, k: Tensor, v: Tensor) -> None:
        """Keep the step's keys and values [T, g, d] in their slots."""
        *_, k_slots, v_slots = self._layers[layer]
        k_slots.index_copy_(0, self._slots, k.to(k_slots.dtype))
        v_slots.index_copy_(0, self._slots, v.to(k_slots.dtype))

    def gather(self, layer: int, part: Part, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Keys and values of the blocks of each row of `part`, one after the other, [R, n·b, g, d] in `dtype`."""
        k, v = (
            pages.index_select(0, part.blocks).flatten(0, 1).to(dtype).unflatten(0, (part.num_rows, -1))
            for pages in self._layers[layer][:2]
        )
        return k, v

    def _split(self, tables: np.ndarray, context_lens: np.ndarray, query_lens: np.ndarray) -> list[Part]:
        """Single tokens together, each longer chunk for itself."""
        ends = np.cumsum(query_lens)
        is_one = query_lens == 1
        parts: list[Part] = []
        if is_one.any():
            parts += self._group(tables, np.flatnonzero(is_one), context_lens[is_one], ends[is_one] - 1)
        for row in np.flatnonzero(~is_one):
            context_len, end = int(context_lens[row]), int(ends[row])
            blocks = self._tensor(tables[row, : -(-context_len // self.block_size)])
            parts.append(
                self._stretched(_Prompt(slice(end - int(query_lens[row]), end), blocks, context_len), int(row))
            )
        return parts

    def _group(
        self, tables: np.ndarray, sequences: np.ndarray, lengths: np.ndarray, tokens: np.ndarray
    ) -> list[_Answers]:
        """One group if padding to the longest at most doubles the work, else one for each power of two of blocks.

        `sequences` are the rows of `tables` that each of `tokens` belongs to, seeing `lengths` of them.
        """
        tables = tables[sequences]
        num_blocks = -(-lengths // self.block_size)
        widths = 1 << np.ceil(np.log2(num_blocks)).astype(np.int64)
        if not self.is_invariant and num_blocks.max() * len(num_blocks) <= 2 * num_blocks.sum():
            widths[:] = num_blocks.max()
        groups = []
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            padded = np.full((len(rows), width), self.num_blocks, dtype=np.int32)
            padded[:, : tables.shape[1]] = tables[rows, :width]
            is_uniform = not self.is_invariant and lengths[rows].min() == lengths[rows].max()
            first, last = int(tokens[rows[0]]), int(tokens[rows[-1]])
            is_run = last - first == len(rows) - 1
            where = slice(first, last + 1) if is_run else self._tensor(tokens[rows])
            lens = self._tensor(lengths[rows])
            groups.append(self._stretched(_Answers(where, self._tensor(padded), lens, is_uniform), sequences[rows]))
        return groups

    def _stretched(self, part: AnyPart, sequences: int | np.ndarray) -> AnyPart:
        """`part` with the stretches of its rows, if any is not one."""
        if self._alphas is not None and (self._alphas != 1).any():
            part.alphas = self._tensor(np.atleast_1d(self._alphas[sequences]))
        return part

    def _tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)


def zero_pages(shape: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> Tensor:
    """Zeros (a masked NaN would still spoil a sum); on a CPU in pages that take no memory until they are written."""
    if device.type != "cpu":
        return torch.zeros(shape, device=device, dtype=dtype)
    return torch.from_numpy(np.zeros((*shape[:-1], shape[-1] * dtype.itemsize), dtype=np.uint8)).view(dtype)
