"""Losses over a large vocabulary without ever holding all logits: cross-entropy, and divergence from another network.

A batch of 8,192 tokens against 151,936 words would be 5 GB of fp32 logits, and as much again for their gradient. Rows
are taken a chunk at a time instead: logits, log-softmax in fp32, loss, and at once the gradients, since

    d loss / d logits = softmax(logits) - onehot(label)

needs nothing from later. Only the gradients of the hidden states and of the head survive a chunk; the backward pass
scales them by what arrives from above. Rows without a label are left out, but for the few that fill up the last grain:
a CPU compiles its 16-bit products for each number of rows it meets. The KL divergence from what a second network says
goes the same way: its gradient is the difference of the two softmaxes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.dispatch import training_kernels

IGNORE = -100  # label of a token that is not predicted
CHUNK_BYTES, MIN_CHUNK = 1 << 26, 512  # of a chunk's logits: products pay from so many rows on
CACHED_ROWS = 64  # whose softmax is taken at a time: in fp32 they stay in the cache of a core
GRAIN = 64  # rows to a multiple of which those with a label are filled up


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk_size: int = 0
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in nats and the number of labels that count.

    hidden [..., H]; weight [V, H], the head; labels [...], the id each row should predict (already shifted), or -100.
    Under autocast the products run in its dtype. `chunk_size` 0: as many rows as make 64 MB of logits, at least 512.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    labels = labels.flatten()
    valid = labels != IGNORE
    num_tokens = valid.sum()
    hidden = hidden.flatten(0, -2)
    if num_tokens < labels.numel():
        rows = _kept(valid, int(num_tokens))
        hidden, labels = hidden[rows], labels[rows]
    chunk_size = chunk_size or max(MIN_CHUNK, CHUNK_BYTES // (dtype.itemsize * len(weight)) // GRAIN * GRAIN)
    with torch.autocast(kind, enabled=False):
        loss = _CrossEntropy.apply(hidden.to(dtype), weight.to(dtype), labels, chunk_size, torch.is_grad_enabled())
    return loss, num_tokens


def chunked_divergence(hidden: Tensor, wanted: Tensor, weight: Tensor, *, chunk_size: int = 0) -> Tensor:
    """Summed KL divergence in nats of what `hidden` says from what `wanted` says, both [..., H].

    Σ p (log p − log q), p of `wanted`. weight [V, H], the head of both, is not trained, nor is what `wanted` came from.
    """
    hidden, wanted = hidden.flatten(0, -2), wanted.detach().flatten(0, -2)
    chunk_size = chunk_size or max(MIN_CHUNK, CHUNK_BYTES // (weight.itemsize * len(weight)) // GRAIN * GRAIN)
    return _Divergence.apply(hidden, wanted.to(hidden.dtype), weight.detach().to(hidden.dtype), chunk_size)


def _kept(valid: Tensor, num_valid: int) -> Tensor:
    """The rows with a label, then as many without as make their number a multiple of GRAIN, where there are any."""
    return valid.logical_not().byte().argsort(stable=True)[: -(-num_valid // GRAIN) * GRAIN]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk_size: int, with_grad: bool) -> Tensor:
        wants_hidden, wants_weight = (with_grad and wanted for wanted in ctx.needs_input_grad[:2])
        wide = torch.promote_types(hidden.dtype, torch.float32)
        loss = hidden.new_zeros((), dtype=wide)
        grad_hidden = torch.empty_like(hidden) if wants_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if wants_weight else None
        memory = hidden.new_empty(min(chunk_size, len(labels)), len(weight))
        for start in range(0, len(labels), chunk_size):
            rows, targets = hidden[start : start + chunk_size], labels[start : start + chunk_size]
            scores = torch.mm(rows, weight.T, out=memory[: len(rows)])
            if kernels := training_kernels(scores):
                loss += kernels.softmax_loss_(scores, targets).sum()
            else:
                step = CACHED_ROWS if scores.is_cpu else chunk_size
                for part, wanted in zip(scores.split(step), targets.split(step), strict=True):
                    loss += _sum_and_gradient(part, wanted[:, None], wide, wants_hidden or wants_weight)
            if grad_hidden is not None:
                torch.mm(scores, weight, out=grad_hidden[start : start + chunk_size])
            if grad_weight is not None:
                _add_product(grad_weight, scores.T, rows)
        ctx.save_for_backward(grad_hidden, None if grad_weight is None else grad_weight.to(weight.dtype))
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_hidden, grad_weight = (None if g is None else g * upstream[0].to(g.dtype) for g in ctx.saved_tensors)
        return grad_hidden, grad_weight, None, None, None


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, wanted: Tensor, weight: Tensor, chunk_size: int) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        loss, grad = hidden.new_zeros((), dtype=wide), torch.empty_like(hidden)
        for start in range(0, len(hidden), chunk_size):
            part = slice(start, start + chunk_size)
            scores, others = hidden[part] @ weight.T, wanted[part] @ weight.T
            step = CACHED_ROWS if scores.is_cpu else chunk_size
            for ours, theirs in zip(scores.split(step), others.split(step), strict=True):
                q, p = (F.log_softmax(rows, dim=-1, dtype=wide) for rows in (ours, theirs))
                shares = p.exp()
                loss += shares.flatten() @ p.sub_(q).flatten()
                ours.copy_(q.exp_().sub_(shares))
            torch.mm(scores, weight, out=grad[part])
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * upstream[0].to(grad.dtype), None, None, None


def _sum_and_gradient(scores: Tensor, targets: Tensor, wide: torch.dtype, with_grad: bool) -> Tensor:
    """The summed loss of a few rows; `scores` [n, V] become their gradient. Rows without a label count nothing."""
    has_label = targets != IGNORE
    targets = targets.where(has_label, 0)
    logprobs = F.log_softmax(scores, dim=-1, dtype=wide)
    loss = -logprobs.gather(1, targets).where(has_label, 0).sum()
    if with_grad:
        scores.copy_(logprobs.exp_().scatter_add_(1, targets, logprobs.new_full(targets.shape, -1.0)))
        if scores.is_cuda or not has_label.all():  # a GPU would have to be waited for
            scores.masked_fill_(~has_label, 0)
    return loss


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, in the dtype of `total` where that is wider."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
