"""The low-rank product of an adapter, with a custom backward pass: out + s · B A drop(x).

Autograd would store a copy of x after dropout for each linear that reads it, and PyTorch's dropout draws 32 random bits
for each value, which on a CPU takes longer than the linear itself. Here a value is dropped if its random byte is below
a threshold; one draw gives eight bytes. Only the mask is stored, one byte per value, and linears that read the same x
share x.

The dropout rate is rounded to a multiple of 1/256, and the other values are scaled by the rounded rate, so the mean is
exact.
Shapes: T rows, K inputs, N outputs, r the rank.
"""

from typing import Any

import torch
from torch import Tensor

LEVELS = 256  # values of a random byte
BITS = {2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes of a value


def low_rank(out: Tensor, x: Tensor, pair: tuple[Tensor, Tensor], scale: float, dropout: float) -> Tensor:
    """out [..., N] (overwritten) + scale · B A drop(x), for x [..., K] and the pair A [r, K], B [N, r]."""
    result: Tensor = _LowRank.apply(out, x, *pair, scale, dropout)
    return result


class _LowRank(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, out: Tensor, x: Tensor, a: Tensor, b: Tensor, scale: float, dropout: float) -> Tensor:
        rows = x.reshape(-1, x.size(-1)).to(a.dtype)
        keep, rate = dropout_mask(rows, dropout)
        low = _drop(rows, keep) @ a.T
        ctx.scale = scale / (1 - rate)
        ctx.save_for_backward(rows, keep, low, a, b)
        ctx.mark_dirty(out)
        flat = out.view(-1, out.size(-1))
        if flat.dtype == a.dtype:
            flat.addmm_(low, b.T, alpha=ctx.scale)
        else:
            flat += (low @ b.T * ctx.scale).to(flat.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        rows, keep, low, a, b = ctx.saved_tensors
        grad = grads[0].reshape(-1, len(b)).to(a.dtype)
        grad_low = grad @ b * ctx.scale
        grad_b = (grad.T @ low).mul_(ctx.scale)
        grad_a = grad_low.T @ _drop(rows, keep)
        grad_x = None
        if ctx.needs_input_grad[1]:
            grad_x = grad_low @ a
            grad_x = _drop(grad_x, keep)
            grad_x = grad_x.view(*grads[0].shape[:-1], -1)
        return grads[0], grad_x, grad_a, grad_b, None, None


def dropout_mask(rows: Tensor, dropout: float) -> tuple[Tensor | None, float]:
    """uint8 [T, K], 0 for the values to drop and 1 for the others, and the rounded rate; None and 0 without dropout."""
    threshold = max(round(dropout * LEVELS), 1) if dropout else 0
    if not threshold:
        return None, 0.0
    count = rows.numel()
    words = torch.empty(-(-count // 8), dtype=torch.int64, device=rows.device).random_(-(2**63), None)
    # In place, the comparison keeps its type; into a new tensor of bool, PyTorch's loop is seven times as slow.
    return words.view(torch.uint8)[:count].view(rows.shape).ge_(threshold), threshold / LEVELS


def _drop(rows: Tensor, keep: Tensor | None) -> Tensor:
    """Zero the values where `keep` is 0, by the bits of 0 or −1: PyTorch does not vectorise `masked_fill`."""
    if keep is None:
        return rows
    bits = BITS[rows.element_size()]
    return (rows.view(bits) & keep.to(bits).neg_()).view(rows.dtype)
