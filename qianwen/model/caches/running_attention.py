"""Attention over a long context, a span of keys at a time, with a running softmax (Milakov & Gimelshein 2018).

For each query three things are kept: the largest score m so far, the sum of exp(score − m), and the sum of
exp(score − m) · value. A new span with a larger score m' scales both sums by exp(m − m'). So no tensor holds the keys
or the scores of the whole context. It is used for prompts if no fused kernel runs, and computes in fp32.

Shapes: T queries, S keys of a span, h query heads, g key/value heads, n = h / g, d head_dim.
"""

from __future__ import annotations

import torch
from torch import Tensor

ROWS = 256  # queries whose scores are in memory at the same time


class RunningAttention:
    """The attention of queries q [T, h, d] from `first_position` on; each sees the last `window` keys, 0: all."""

    def __init__(self, q: Tensor, num_kv_heads: int, first_position: int, window: int) -> None:
        self.dtype, self.window, self.first_position = q.dtype, window, first_position
        self.q = q.float().unflatten(1, (num_kv_heads, -1)).permute(1, 2, 0, 3) * q.size(-1) ** -0.5  # [g, n, T, d]
        self.positions = first_position + torch.arange(q.size(0), device=q.device)
        self.largest = self.q.new_full(self.q.shape[:3], -torch.inf)
        self.total = torch.zeros_like(self.largest)
        self.weighted = torch.zeros_like(self.q)

    def add(self, k: Tensor, v: Tensor, first_key: int) -> None:
        """Add the keys and values [S, g, d] from position `first_key` on. Keys after a query are not seen by it."""
        last_key = first_key + k.size(0) - 1
        keys = torch.arange(first_key, last_key + 1, device=k.device)
        k, v = (x.float().transpose(0, 1).unsqueeze(1) for x in (k, v))  # [g, 1, S, d]
        for start in range(0, self.q.size(2), ROWS):
            first = self.first_position + start
            last = min(first + ROWS, self.first_position + self.q.size(2)) - 1
            if last >= first_key and not (self.window and first - self.window >= last_key):
                self._add_rows(slice(start, start + ROWS), k, v, keys)

    def _add_rows(self, rows: slice, k: Tensor, v: Tensor, keys: Tensor) -> None:
        back = self.positions[rows, None] - keys
        hidden = (back < 0) | (back >= self.window) if self.window else back < 0
        scores = (self.q[:, :, rows] @ k.transpose(2, 3)).masked_fill_(hidden, -torch.inf)
        largest = torch.maximum(self.largest[:, :, rows], scores.amax(-1))
        finite = largest.masked_fill(largest == -torch.inf, 0)  # a query that has seen no key yet
        weights = scores.sub_(finite.unsqueeze(-1)).exp_()
        scale = (self.largest[:, :, rows] - finite).exp()
        self.total[:, :, rows] = self.total[:, :, rows] * scale + weights.sum(-1)
        self.weighted[:, :, rows] = self.weighted[:, :, rows] * scale.unsqueeze(-1) + weights @ v
        self.largest[:, :, rows] = largest

    def result(self) -> Tensor:
        """The attention [T, h, d] in the type of the queries."""
        out = self.weighted / self.total.unsqueeze(-1)
        return out.permute(2, 0, 1, 3).flatten(1, 2).to(self.dtype)
