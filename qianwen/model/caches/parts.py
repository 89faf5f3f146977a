"""Attention over gathered blocks without a fused kernel: how the tokens of a step are divided into calls.

    answers   (one token per sequence)   together: their blocks are gathered into a padded tensor with a mask, in groups
                                         of similar length, so that padding at most doubles the work
    prompts   (a chunk per sequence)     one after another, with causal attention over the cached tokens and the chunk;
                                         a long context is gathered in spans (`running_attention.py`)

`as_answers` treats each token as an answer, with padding that depends only on its own length. Then the bits of its
result depend neither on the rest of the batch nor on the chunks of its text. Block tables are those of one kind of
layer (`paged.py`).

Shapes: T tokens of a step, S sequences, R rows of a part, n blocks, b block_size, h query heads, g key/value heads, d
head_dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from qianwen.model.attention import attend, scaled_dot_product

SPAN = 2048  # keys of a prompt that are gathered at the same time


class Answers:
    """Tokens of a step, each the last token of its own context; all have the same number of blocks, with padding."""

    first_key = 0  # position of the first gathered key

    def __init__(
        self, tokens: slice | Tensor, tables: Tensor, lengths: Tensor, ropes: Tensor | None, is_uniform: bool
    ) -> None:
        """`tokens`: indices in the step; `tables` [R, n]; `lengths` [R]; `is_uniform`: equal lengths, so no mask."""
        self.tokens, self.lengths = tokens, lengths
        self.num_rows, self.blocks = len(tables), tables.flatten()
        self.ropes = ropes  # [R], index of the state in the step; None: one state for all
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
        q = q.unflatten(1, (k.size(2), -1))  # heads that share keys become a dimension of queries [R, g, h/g, d]
        return scaled_dot_product(q, k.transpose(1, 2), v.transpose(1, 2), mask).flatten(1, 2)

    def _mask(self, num_keys: int, window: int, dtype: torch.dtype) -> Tensor:
        """Additive mask [R, 1, 1, num_keys], computed once in a step."""
        if (num_keys, window) not in self._masks:
            back = self.lengths[:, None] - 1 - torch.arange(num_keys, device=self.lengths.device)
            hidden = (back < 0) | (back >= window) if window else back < 0
            mask = torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, -torch.inf)
            self._masks[num_keys, window] = mask[:, None, None]
        return self._masks[num_keys, window]


class Prompt:
    """A chunk of one sequence: the last tokens of its `context_len`."""

    num_rows, first_key = 1, 0

    def __init__(self, tokens: slice, blocks: Tensor, context_len: int, ropes: Tensor | None, block_size: int) -> None:
        self.tokens, self.blocks, self.context_len, self.ropes = tokens, blocks, context_len, ropes
        size = max(SPAN // block_size, 1)  # blocks
        starts = range(0, len(blocks), size)
        self.spans = [Span(blocks[start : start + size], start * block_size, ropes) for start in starts]

    def attend(self, q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
        """q [R, h, d], k and v [1, n·b, g, d] → [R, h, d]."""
        return attend(q.unsqueeze(0), k[:, : self.context_len], v[:, : self.context_len], window)[0]


@dataclass(frozen=True, eq=False)
class Span:
    """Consecutive blocks of one sequence; `first_key` is the position of their first token."""

    blocks: Tensor  # [n] int32
    first_key: int
    ropes: Tensor | None  # [1], index of the state in the step; None: one state for all
    num_rows: int = 1


Part = Answers | Prompt


@dataclass(frozen=True, eq=False)
class Step:
    """The sequences and tokens of one step, the same for every kind of layer."""

    context_lens: np.ndarray  # [S], length of each sequence after this step
    query_lens: np.ndarray  # [S], tokens of each sequence in this step
    ropes: np.ndarray | None  # [S], index of the state in the step; None: one state for all
    block_size: int
    device: torch.device

    @property
    def sequences(self) -> np.ndarray:
        """[T], the index of each token's sequence."""
        return np.repeat(np.arange(len(self.query_lens)), self.query_lens)

    @property
    def positions(self) -> np.ndarray:
        """[T], the position of each token in its sequence."""
        ends = np.cumsum(self.query_lens)
        return np.arange(ends[-1]) - np.repeat(ends - self.context_lens, self.query_lens)

    def tensor(self, array: np.ndarray) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def as_answers(self, tables: np.ndarray, padding: int) -> list[Part]:
        """Each token as an answer, in groups whose padding depends only on the token's own length."""
        sequences = self.sequences
        return [*self._group(tables, padding, sequences, self.positions + 1, np.arange(len(sequences)), True)]

    def split(self, tables: np.ndarray, padding: int) -> list[Part]:
        """Single tokens in groups, each longer chunk alone. `tables` [S, n]; `padding`: index of the extra block."""
        ends = np.cumsum(self.query_lens)
        is_one = self.query_lens == 1
        parts: list[Part] = []
        if is_one.any():
            lengths, tokens = self.context_lens[is_one], ends[is_one] - 1
            parts += self._group(tables, padding, np.flatnonzero(is_one), lengths, tokens, False)
        for row in np.flatnonzero(~is_one):
            context_len, end = int(self.context_lens[row]), int(ends[row])
            blocks = self.tensor(tables[row, : -(-context_len // self.block_size)])
            tokens = slice(end - int(self.query_lens[row]), end)
            parts.append(Prompt(tokens, blocks, context_len, self._ropes_of(np.array([row])), self.block_size))
        return parts

    def _group(
        self,
        tables: np.ndarray,
        padding: int,
        sequences: np.ndarray,
        lengths: np.ndarray,
        tokens: np.ndarray,
        is_invariant: bool,
    ) -> list[Answers]:
        """One group if padding to the longest at most doubles the work, else a group for each power of two of blocks.

        For each of `tokens`, `sequences` is its row in `tables` and `lengths` the number of tokens that it sees.
        """
        tables = tables[sequences]
        num_blocks = -(-lengths // self.block_size)
        widths = 1 << np.ceil(np.log2(num_blocks)).astype(np.int64)
        if not is_invariant and num_blocks.max() * len(num_blocks) <= 2 * num_blocks.sum():
            widths[:] = num_blocks.max()
        groups = []
        for width in np.unique(widths):
            rows = np.flatnonzero(widths == width)
            padded = np.full((len(rows), width), padding, dtype=np.int32)
            padded[:, : tables.shape[1]] = tables[rows, :width]
            is_uniform = not is_invariant and lengths[rows].min() == lengths[rows].max()
            first, last = int(tokens[rows[0]]), int(tokens[rows[-1]])
            is_run = last - first == len(rows) - 1
            where = slice(first, last + 1) if is_run else self.tensor(tokens[rows])
            ropes = self._ropes_of(sequences[rows])
            groups.append(Answers(where, self.tensor(padded), self.tensor(lengths[rows]), ropes, is_uniform))
        return groups

    def _ropes_of(self, sequences: np.ndarray) -> Tensor | None:
        return None if self.ropes is None else self.tensor(self.ropes[sequences])
