"""The key-value cache of an engine: its data type, its number of blocks, and the attention kernel for it.

Layers with full attention get the number of blocks in the configuration. Layers with a window of w tokens need, in one
step, the blocks that all sequences see and those that the step fills:

    max_num_seqs · (⌈w / block_size⌉ + 2) + ⌈max_num_batched_tokens / block_size⌉

They get twice that number, but never more than layers with full attention. So no sequence waits for blocks of a
windowed kind, and the second half caches the ends of earlier prompts.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.kernels.dispatch import on_gpu
from qianwen.model.caches.int8 import Int8PagedCache
from qianwen.model.caches.paged import AttentionKernel, PagedCache
from qianwen.model.transformer import Qwen, key_biases

CacheDtype = Literal["auto", "bfloat16", "int8"]
INVARIANT_TILE = 16  # rows of every forward in the batch-invariant mode, if kernels depend on the number of rows


def blocks_of_kinds(
    windows: Sequence[int], num_blocks: int, block_size: int, max_num_seqs: int, max_num_batched_tokens: int
) -> list[int]:
    """Number of blocks for each kind of layer; `num_blocks` is the number for full attention."""
    counts = []
    for window in windows:
        seen = max_num_seqs * (-(-window // block_size) + 2)
        needed = seen - (-max_num_batched_tokens // block_size)
        counts.append(min(num_blocks, 2 * needed) if window else num_blocks)
    return counts


def token_bytes(model: Qwen, kind: CacheDtype) -> int:
    """Bytes of the keys and values of a token in one layer."""
    config = model.config
    if kind == "int8":  # and two float16 for each head
        return 2 * config.num_key_value_heads * (config.head_dim + 4)
    itemsize = 2 if kind == "bfloat16" else model.model.norm.weight.element_size()
    return 2 * config.num_key_value_heads * config.head_dim * itemsize


def new_cache(
    model: Qwen, num_blocks: Sequence[int], block_size: int, kind: CacheDtype, *, is_fused: bool, is_invariant: bool
) -> PagedCache:
    """A paged cache for `model`, `num_blocks` for each kind of layer; `is_fused`: use the fused kernel if it runs."""
    weight = model.model.norm.weight
    device = weight.device
    if kind == "int8":
        biases = key_biases(model)
        return Int8PagedCache(model.config, num_blocks, block_size, device, biases=biases, is_invariant=is_invariant)
    dtype = torch.bfloat16 if kind == "bfloat16" else weight.dtype
    kernel = _attention_kernel(weight, is_invariant) if is_fused else None
    return PagedCache(model.config, num_blocks, block_size, device, dtype, kernel=kernel, is_invariant=is_invariant)


def _attention_kernel(weight: Tensor, is_invariant: bool) -> AttentionKernel | None:
    """The fused attention over blocks; None if there is none for the device and the data type of `weight`."""
    if (triton := on_gpu(weight)) is not None:
        return functools.partial(triton.paged_attention, is_invariant=is_invariant)
    is_supported = weight.device.type == "cpu" and weight.dtype == torch.float32
    return operators.paged_attention if is_supported and operators.available() else None


def invariant_tile(model: Qwen, has_kernel: bool) -> int:
    """Rows that each forward must have so that a row's bits do not depend on the batch; 0 if all kernels ensure it.

    The linears of a GPU do not: which one runs depends on the number of rows.
    """
    is_packed = not any(isinstance(module, nn.Linear) for module in model.modules())
    is_ensured = has_kernel and is_packed and model.model.norm.weight.is_cpu
    return 0 if is_ensured else INVARIANT_TILE
