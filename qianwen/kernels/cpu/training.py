"""What training in bfloat16 spends its time on between the matrix products.

    attend_documents    causal attention of packed documents, forward and backward (documents.h)
    softmax_loss_       cross-entropy of a few rows, whose scores become their gradients (softmax.h)

PyTorch's own are several times slower there: its backward attention multiplies small blocks one by one, and its
softmax writes every number three times. Shapes: T tokens of all documents in a row, h query heads, g key/value heads,
d head_dim, V words.
"""

import ctypes
from ctypes import c_float, c_int64, c_void_p
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu.operators import available, functions

BLOCK = 64  # tokens that are computed at once
STEP = 32  # numbers a tile takes of a head


class _Documents(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("q", "k", "v")),
        *((name, c_int64) for name in ("q_stride", "k_stride", "v_stride", "heads", "kv_heads", "dim", "tokens")),
        ("first", c_void_p),
        ("scale", c_float),
        *((name, c_void_p) for name in ("out", "norms")),
    ]


class _Gradients(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("d_out", "dq", "dk", "dv")]


def takes(x: Tensor) -> bool:
    """Whether tensors like `x` can be given to these kernels here: bfloat16 on a CPU that runs them."""
    return x.dtype == torch.bfloat16 and x.device.type == "cpu" and available()


def attend_documents(q: Tensor, k: Tensor, v: Tensor, first: Tensor) -> Tensor:
    """q [T, h, d], k and v [T, g, d], bfloat16 → [T, h, d]. Token t sees the tokens first[t] … t.

    `first` [T] int32 never falls.
    """
    num_tokens, dim = len(q), q.size(-1)
    scale, padding = dim**-0.5, (0, -dim % STEP, 0, 0, 0, -num_tokens % BLOCK)
    if not any(padding):
        return _Attention.apply(q, k, v, first, scale)
    q, k, v = (F.pad(x, padding) for x in (q, k, v))
    first = torch.cat([first, torch.arange(num_tokens, len(q), dtype=torch.int32)])  # padding sees itself
    return _Attention.apply(q, k, v, first, scale)[:num_tokens, :, :dim]


class _Attention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, first: Tensor, scale: float) -> Tensor:
        q, k, v = (_with_whole_heads(x) for x in (q, k, v))
        out, norms = torch.empty(q.shape, dtype=q.dtype), torch.empty(q.size(1), q.size(0))
        functions().qw_attend_documents(ctypes.byref(_described(q, k, v, first, scale, out, norms)))
        ctx.save_for_backward(q, k, v, first, out, norms)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx: Any, *upstream: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, first, out, norms = ctx.saved_tensors
        d_out = upstream[0].contiguous()
        gradients = [torch.empty(x.shape, dtype=x.dtype) for x in (q, k, v)]
        where = _Gradients(d_out.data_ptr(), *(x.data_ptr() for x in gradients))
        documents = _described(q, k, v, first, ctx.scale, out, norms)
        functions().qw_differentiate_documents(ctypes.byref(documents), ctypes.byref(where))
        return *gradients, None, None


def _with_whole_heads(x: Tensor) -> Tensor:
    """Tokens may lie apart; a token's heads may not."""
    return x if x.stride(2) == 1 and x.stride(1) == x.size(2) else x.contiguous()


def _described(q: Tensor, k: Tensor, v: Tensor, first: Tensor, scale: float, out: Tensor, norms: Tensor) -> _Documents:
    return _Documents(
        *(x.data_ptr() for x in (q, k, v)),
        *(x.stride(0) for x in (q, k, v)),
        q.size(1),
        k.size(1),
        q.size(2),
        q.size(0),
        first.data_ptr(),
        scale,
        out.data_ptr(),
        norms.data_ptr(),
    )


def softmax_loss_(scores: Tensor, targets: Tensor) -> Tensor:
    """Losses [n] of scores [n, V], bfloat16, which become their gradients. A target below 0 counts nothing."""
    assert scores.dtype == torch.bfloat16 and scores.is_contiguous() and targets.is_contiguous()
    losses = torch.empty(len(scores))
    functions().qw_softmax_loss(scores.data_ptr(), targets.data_ptr(), *scores.shape, losses.data_ptr())
    return losses
