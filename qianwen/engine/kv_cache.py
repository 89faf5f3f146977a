"""The cache of one engine: which kind of pages, how many of each, and what attends over them.

A kind of layers with full attention gets as many blocks as the configuration says. One whose layers look back w tokens
needs, in a step, what its sequences see and what they read:

    max_num_seqs · (⌈w / block_size⌉ + 2) + ⌈max_num_batched_tokens / block_size⌉

It gets twice that, never more than the others: so windows never make a sequence wait, and the second half holds the
ends of prompts that were read before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.model.caches.int8 import Int8PagedCache
from qianwen.model.caches.paged import AttentionKernel, PagedCache
from qianwen.model.transformer import Qwen, key_biases

CacheDtype = Literal["auto", "bfloat16", "int8"]
INVARIANT_TILE = 16  # rows of every forward in the batch-invariant mode, where kernels look at their number


def blocks_of_kinds(
    windows: Sequence[int], num_blocks: int, block_size: int, max_num_seqs: int, max_num_batched_tokens: int
) -> list[int]:
    """The size of the pool of each kind of layers, given that of full attention."""
    counts = []
    for window in windows:
        seen = max_num_seqs * (-(-window // block_size) + 2)
        needed = seen - (-max_num_batched_tokens // block_size)
        counts.append(min(num_blocks, 2 * needed) if window else num_blocks)
    return counts


def new_cache(
    model: Qwen, num_blocks: Sequence[int], block_size: int, kind: CacheDtype, *, is_fused: bool, is_invariant: bool
) -> PagedCache:
    """Pages for `model` with the fused attention, if wanted, where it runs; `num_blocks` of each kind of layers."""
    weight = model.model.norm.weight
    device = weight.device
    if kind == "int8":
        biases = key_biases(model)
        return Int8PagedCache(model.config, num_blocks, block_size, device, biases=biases, is_invariant=is_invariant)
    dtype = torch.bfloat16 if kind == "bfloat16" else weight.dtype
    kernel = _attention_kernel(weight) if is_fused else None
    return PagedCache(model.config, num_blocks, block_size, device, dtype, kernel=kernel, is_invariant=is_invariant)


def _attention_kernel(weight: Tensor) -> AttentionKernel | None:
    """The fused attention over pages, if it runs for a model with such weights."""
    is_fit = weight.device.type == "cpu" and weight.dtype == torch.float32
    return operators.paged_attention if is_fit and operators.available() else None


def invariant_tile(model: Qwen, has_kernel: bool) -> int:
    """Rows that every forward must have for bits that depend on a row alone; 0 where all kernels see to that."""
    is_packed = not any(isinstance(module, nn.Linear) for module in model.modules())
    return 0 if has_kernel and is_packed else INVARIANT_TILE
