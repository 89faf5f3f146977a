"""Packed linears on an NVIDIA GPU, in Triton: the layout of `packing.py`, read where it lies.

    few_rows    y = x · Wᵀ + b for up to MOST_ROWS rows, as when answering: weights are read packed
    unpack      some panels as floats, for many rows to meet in an ordinary product

A program of `few_rows` takes a row, a panel (16 outputs) and a share of its blocks; the shares are added in their
order, so the same input gives the same bits. Tiles are 32 words by 16 outputs: a word holds the codes of four inputs
of one output, and the four inputs 16 further on in a second word (or the same one's high halves).

Not here: bf16 panels, which a GPU has no need of.
Shapes: M rows, N outputs, K inputs.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from qianwen.kernels.packing import BLOCK, FORMATS, PANEL, Format, block_bytes, packed_shape

MOST_ROWS = 4
PROGRAMS = 1056  # that fill a GPU of 132 multiprocessors; fewer panels are cut into shares of their blocks


@triton.jit
def _words(at, group, vector, output, mask, BITS: tl.constexpr):
    """Codes of inputs 32·group + 4·vector … + 3 and of those 16 further on, a byte each: two int32 tiles."""
    words = at.to(tl.pointer_type(tl.int32)) + group * (16 * BITS) + output
    both = tl.load(words + vector * 16, mask, 0)
    if BITS == 8:
        return both, tl.load(words + vector * 16 + 64, mask, 0)
    low, high = both & 0x0F0F0F0F, (both >> 4) & 0x0F0F0F0F
    if BITS == 5:
        at += group * 320 + vector * 8 + output // 2
        near = tl.load(at + 256, mask, 0).to(tl.int32) >> (output % 2 * 4)
        far = tl.load(at + 288, mask, 0).to(tl.int32) >> (output % 2 * 4)
        low |= (near & 1) << 4 | (near & 2) << 11 | (near & 4) << 18 | (near & 8) << 25
        high |= (far & 1) << 4 | (far & 2) << 11 | (far & 4) << 18 | (far & 8) << 25
    if BITS == 6:
        near, far = tl.load(words + 64, mask, 0) >> (vector * 2), tl.load(words + 80, mask, 0) >> (vector * 2)
        low |= (near & 0x03030303) << 4
        high |= (far & 0x03030303) << 4
    return low, high


@triton.jit
def _half(at):
    return at.to(tl.pointer_type(tl.float16))


@triton.jit
def _scales(at, group, groups, output, mask, IS_AFFINE: tl.constexpr, IS_SIGNED: tl.constexpr, SPAN: tl.constexpr):
    """What the codes of both words are multiplied by, and what is taken off; SPAN inputs share a scale."""
    if IS_AFFINE:
        d, e = tl.load(_half(at) + output).to(tl.float32), tl.load(_half(at) + 16 + output).to(tl.float32)
        s = tl.load(at + 64 + group * 32 + output, mask, 0).to(tl.float32)
        t = tl.load(at + 80 + group * 32 + output, mask, 0).to(tl.float32)
        return d * s, d * s, e * t
    if IS_SIGNED:
        d = tl.load(_half(at) + output).to(tl.float32)
        small = (at + 32).to(tl.pointer_type(tl.int8)) + group * 32 + output
        near, far = tl.load(small, mask, 0).to(tl.float32), tl.load(small + 16, mask, 0).to(tl.float32)
        return d * near, d * far, tl.zeros_like(near)
    scale = tl.load(_half(at) + group * 32 // SPAN * 16 + output, mask, 0).to(tl.float32)
    return scale, scale, tl.zeros_like(scale)


@triton.jit
def _code(words, J: tl.constexpr, MIDDLE: tl.constexpr):
    return (((words >> (8 * J)) & 255) - MIDDLE).to(tl.float32)


@triton.jit
def _few_rows(  # noqa: PLR0913 (a kernel has no objects)
    x_ptr, packed_ptr, bias_ptr, out_ptr, inputs, outputs, groups_in_all, blocks_each, panel_bytes, block_size,
    BITS: tl.constexpr, MIDDLE: tl.constexpr, IS_AFFINE: tl.constexpr, IS_SIGNED: tl.constexpr,
    SPAN: tl.constexpr, FIXED: tl.constexpr, BY_GROUP: tl.constexpr, HAS_BIAS: tl.constexpr,
):  # fmt: skip
    row, panel, share = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    word, output = tl.arange(0, 32)[:, None], tl.arange(0, 16)[None, :]
    group, vector = word // 4, word % 4
    x_ptr += row * inputs
    sums = tl.zeros((32, 16), tl.float32)
    for block in range(share * blocks_each, min((share + 1) * blocks_each, (groups_in_all + 7) // 8)):
        at = packed_ptr + panel.to(tl.int64) * panel_bytes + block * block_size
        groups = min(groups_in_all - block * 8, 8)
        mask = group + output * 0 < groups
        near_scale, far_scale, minimum = _scales(at, group, groups, output, mask, IS_AFFINE, IS_SIGNED, SPAN)
        low, high = _words(at + FIXED + groups * BY_GROUP, group, vector, output, mask, BITS)
        near, far = tl.zeros((32, 16), tl.float32), tl.zeros((32, 16), tl.float32)
        total = tl.zeros((32, 1), tl.float32)
        for j in tl.static_range(4):
            k = block * 256 + group * 32 + vector * 4 + j
            x_near = tl.load(x_ptr + k, k < inputs, 0).to(tl.float32)
            x_far = tl.load(x_ptr + k + 16, k + 16 < inputs, 0).to(tl.float32)
            near += _code(low, j, MIDDLE) * x_near
            far += _code(high, j, MIDDLE) * x_far
            total += x_near + x_far
        sums += near * near_scale + far * far_scale
        if IS_AFFINE:
            sums -= minimum * total
    out = tl.sum(sums, 0)
    n = panel * 16 + tl.arange(0, 16)
    if HAS_BIAS:
        out += tl.load(bias_ptr + n, n < outputs, 0)
    out_ptr += (share * tl.num_programs(0) + row) * outputs
    tl.store(out_ptr + n, out.to(out_ptr.dtype.element_ty), n < outputs)


@triton.jit
def _add_shares(parts_ptr, bias_ptr, out_ptr, size, outputs, SHARES: tl.constexpr, HAS_BIAS: tl.constexpr):
    at = tl.program_id(0) * 256 + tl.arange(0, 256)
    total = tl.zeros((256,), tl.float32)
    for share in tl.static_range(SHARES):
        total += tl.load(parts_ptr + share * size + at, at < size, 0)
    if HAS_BIAS:
        total += tl.load(bias_ptr + at % outputs, at < size, 0)
    tl.store(out_ptr + at, total.to(out_ptr.dtype.element_ty), at < size)


@triton.jit
def _unpack(  # noqa: PLR0913
    packed_ptr, out_ptr, rows, inputs, groups_in_all, panel_bytes, block_size,
    BITS: tl.constexpr, MIDDLE: tl.constexpr, IS_AFFINE: tl.constexpr, IS_SIGNED: tl.constexpr,
    SPAN: tl.constexpr, FIXED: tl.constexpr, BY_GROUP: tl.constexpr,
):  # fmt: skip
    panel, block = tl.program_id(0), tl.program_id(1)
    word, output = tl.arange(0, 32)[:, None], tl.arange(0, 16)[None, :]
    group, vector = word // 4, word % 4
    at = packed_ptr + panel.to(tl.int64) * panel_bytes + block * block_size
    groups = min(groups_in_all - block * 8, 8)
    mask = group + output * 0 < groups
    near_scale, far_scale, minimum = _scales(at, group, groups, output, mask, IS_AFFINE, IS_SIGNED, SPAN)
    low, high = _words(at + FIXED + groups * BY_GROUP, group, vector, output, mask, BITS)
    n = panel * 16 + output
    k = block * 256 + group * 32 + vector * 4
    out_ptr += n.to(tl.int64) * inputs + k
    for j in tl.static_range(4):
        near = _code(low, j, MIDDLE) * near_scale - minimum
        far = _code(high, j, MIDDLE) * far_scale - minimum
        kept = mask & (n < rows)
        tl.store(out_ptr + j, near.to(out_ptr.dtype.element_ty), kept & (k + j < inputs))
        tl.store(out_ptr + j + 16, far.to(out_ptr.dtype.element_ty), kept & (k + j + 16 < inputs))


def _layout(form: Format, inputs: int) -> tuple[tuple[int, int, int], dict[str, int | bool]]:
    """Groups of a panel, bytes of a panel and of a block, and what is compiled in for this format."""
    groups = packed_shape(1, inputs)[1] // 32
    whole, rest = divmod(groups * 32, BLOCK)
    size = block_bytes(form, BLOCK)
    panel = whole * size + (block_bytes(form, rest) if rest else 0)
    # Bytes of scales before a block's codes: some whatever its groups, some for each.
    by_group = 32 * form.is_affine or 32 * form.is_signed or 32 * 32 // form.scale_inputs
    fixed = 2 * PANEL * (form.is_affine + form.has_blocks)
    compiled = {
        "BITS": form.bits,
        "MIDDLE": form.middle,
        "IS_AFFINE": form.is_affine,
        "IS_SIGNED": form.is_signed,
        "SPAN": form.scale_inputs,
        "FIXED": fixed,
        "BY_GROUP": by_group,
    }
    return (groups, panel, size), compiled


def few_rows(x: Tensor, packed: Tensor, format: str, outputs: int, bias: Tensor | None) -> Tensor:
    """x [M ≤ MOST_ROWS, K], `packed` as `packing.pack` makes it, bias fp32 [N] → [M, N] in the type of x."""
    rows, inputs = x.shape
    layout, compiled = _layout(FORMATS[format], inputs)
    panels, blocks = -(-outputs // PANEL), -(-layout[0] // 8)
    shares = min(-(-PROGRAMS // panels), blocks)
    each = -(-blocks // shares)
    shares = -(-blocks // each)
    out = torch.empty(rows, outputs, dtype=x.dtype, device=x.device)
    parts = out if shares == 1 else torch.empty(shares, rows, outputs, device=x.device)
    has_bias = bias is not None
    _few_rows[rows, panels, shares](
        x, packed, bias, parts, inputs, outputs, layout[0], each, *layout[1:],
        HAS_BIAS=has_bias and shares == 1, **compiled,
    )  # fmt: skip
    if shares > 1:
        size = rows * outputs
        _add_shares[(-(-size // 256),)](parts, bias, out, size, outputs, SHARES=shares, HAS_BIAS=has_bias)
    return out


def unpack(packed: Tensor, format: str, outputs: int, inputs: int, dtype: torch.dtype) -> Tensor:
    """The weights [N, K] in `dtype` of panels [P, bytes], of which N may cut the last."""
    layout, compiled = _layout(FORMATS[format], inputs)
    out = torch.empty(outputs, inputs, dtype=dtype, device=packed.device)
    _unpack[-(-outputs // PANEL), -(-layout[0] // 8)](packed, out, outputs, inputs, *layout, **compiled)
    return out
