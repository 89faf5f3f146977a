"""Losses over a large vocabulary that never hold all logits: cross-entropy, and KL divergence from another network.

For 8,192 tokens and a vocabulary of 151,936, the fp32 logits take 5 GB, and their gradient takes the same. So rows are
processed in chunks: logits, log-softmax in fp32, loss, and immediately the gradients, because

    d loss / d logits = softmax(logits) - onehot(label)

needs no later result. Only the gradients of the hidden states and of the head outlive a chunk; the backward pass scales
them by the gradient from above. Rows without a label are skipped, except a few that pad the number of rows to a
multiple of `GRAIN`: a CPU compiles its 16-bit products for each number of rows. The KL divergence from another network
is computed in the same way; its gradient is the difference of the two softmaxes.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.dispatch import training_kernels

IGNORE = -100  # label of a token that is not predicted
CHUNK_BYTES, MIN_CHUNK = 1 << 26, 512  # size of a chunk's logits; minimum rows of a chunk, for efficient products
CACHED_ROWS = 64  # rows of one softmax call: in fp32 they fit in the cache of a CPU core
GRAIN = 64  # the number of rows with a label is padded to a multiple of this


def chunked_cross_entropy(
    hidden: Tensor, weight: Tensor, labels: Tensor, *, chunk_size: int = 0
) -> tuple[Tensor, Tensor]:
    """Summed cross-entropy in nats, and the number of rows that have a label.

    hidden [..., H]; weight [V, H], the head; labels [...], the target id of each row (already shifted), or -100.
    Under autocast the products run in its dtype. `chunk_size` 0: the rows whose logits take 64 MB, at least 512.
    """
    kind = hidden.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else hidden.dtype
    labels = labels.flatten()
    valid = labels != IGNORE
    num_tokens = valid.sum()
    hidden = hidden.flatten(0, -2)
    if num_tokens < labels.numel():
        rows = _labelled_rows(valid, int(num_tokens))
        hidden, labels = hidden[rows], labels[rows]
    chunk_size = chunk_size or max(MIN_CHUNK, CHUNK_BYTES // (dtype.itemsize * len(weight)) // GRAIN * GRAIN)
    with torch.autocast(kind, enabled=False):
        loss = _CrossEntropy.apply(hidden.to(dtype), weight.to(dtype), labels, chunk_size, torch.is_grad_enabled())
    return loss, num_tokens


def chunked_divergence(hidden: Tensor, target: Tensor, weight: Tensor, *, chunk_size: int = 0) -> Tensor:
    """Summed KL divergence Σ p (log p − log q) in nats, with p predicted from `target` and q from `hidden`.

    hidden, target [..., H]; weight [V, H], the head of both. Only `hidden` gets a gradient.
    """
    hidden, target = hidden.flatten(0, -2), target.detach().flatten(0, -2)
    chunk_size = chunk_size or max(MIN_CHUNK, CHUNK_BYTES // (weight.itemsize * len(weight)) // GRAIN * GRAIN)
    return _Divergence.apply(hidden, target.to(hidden.dtype), weight.detach().to(hidden.dtype), chunk_size)


def _labelled_rows(valid: Tensor, num_valid: int) -> Tensor:
    """Indices of the rows with a label, padded with rows without one to a multiple of GRAIN if there are enough."""
    return valid.logical_not().byte().argsort(stable=True)[: -(-num_valid // GRAIN) * GRAIN]


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, labels: Tensor, chunk_size: int, with_grad: bool) -> Tensor:
        needs_hidden, needs_weight = (with_grad and needs for needs in ctx.needs_input_grad[:2])
        wide = torch.promote_types(hidden.dtype, torch.float32)
        loss = hidden.new_zeros((), dtype=wide)
        grad_hidden = torch.empty_like(hidden) if needs_hidden else None
        grad_weight = torch.zeros_like(weight, dtype=wide) if needs_weight else None
        memory = hidden.new_empty(min(chunk_size, len(labels)), len(weight))
        for start in range(0, len(labels), chunk_size):
            rows, targets = hidden[start : start + chunk_size], labels[start : start + chunk_size]
            scores = torch.mm(rows, weight.T, out=memory[: len(rows)])
            if kernels := training_kernels(scores):
                loss += kernels.softmax_loss_(scores, targets).sum()
            else:
                step = CACHED_ROWS if scores.is_cpu else chunk_size
                for part, labels_of_part in zip(scores.split(step), targets.split(step), strict=True):
                    loss += _sum_and_gradient(part, labels_of_part[:, None], wide, needs_hidden or needs_weight)
            # `scores` now holds the gradient of the logits
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
    def forward(ctx: Any, hidden: Tensor, target: Tensor, weight: Tensor, chunk_size: int) -> Tensor:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        loss, grad = hidden.new_zeros((), dtype=wide), torch.empty_like(hidden)
        for start in range(0, len(hidden), chunk_size):
            part = slice(start, start + chunk_size)
            scores, target_scores = hidden[part] @ weight.T, target[part] @ weight.T
            step = CACHED_ROWS if scores.is_cpu else chunk_size
            for rows, target_rows in zip(scores.split(step), target_scores.split(step), strict=True):
                log_q, log_p = (F.log_softmax(x, dim=-1, dtype=wide) for x in (rows, target_rows))
                p = log_p.exp()
                loss += p.flatten() @ log_p.sub_(log_q).flatten()
                rows.copy_(log_q.exp_().sub_(p))
            torch.mm(scores, weight, out=grad[part])
        ctx.save_for_backward(grad)
        return loss

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        (grad,) = ctx.saved_tensors
        return grad * upstream[0].to(grad.dtype), None, None, None


def _sum_and_gradient(scores: Tensor, targets: Tensor, wide: torch.dtype, with_grad: bool) -> Tensor:
    """The summed loss of a few rows; `scores` [n, V] are overwritten by their gradient. Rows without a label add 0."""
    has_label = targets != IGNORE
    targets = targets.where(has_label, 0)
    logprobs = F.log_softmax(scores, dim=-1, dtype=wide)
    loss = -logprobs.gather(1, targets).where(has_label, 0).sum()
    if with_grad:
        scores.copy_(logprobs.exp_().scatter_add_(1, targets, logprobs.new_full(targets.shape, -1.0)))
        if scores.is_cuda or not has_label.all():  # on a GPU the check would wait for the kernels
            scores.masked_fill_(~has_label, 0)
    return loss


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """total += a @ b, added in the dtype of `total`, which may be wider."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b
