"""How quantised weights lie in memory: the layout that `kernels/formats.h` reads, written and read back with PyTorch.

A linear of N outputs and K inputs becomes panels of 16 outputs, a panel blocks of 256 inputs (the last may have 128):

    panel = block, block, …        block = scales of all its groups | codes of all its groups, 32 inputs each

and a weight is its code times the group's scale, less a minimum:

    format        bits/weight  weight                     scales
    int4, int5    4.6, 5.6     d·s · code − e·t           d, e float16 per block; s, t uint8 per 32 inputs
    q4_0, q5_0    4.5, 5.5     d · (code − middle)        d float16 per 32
    q6_k          6.6          d·s · (code − middle)      d float16 per block, s int8 per 16
    q8_0, int8    8.5, 8.1     d · (code − middle)        d float16 per 32, per 128
    bf16          16           bfloat16, no scales        two inputs to a 32-bit lane, see dense.h

Everything is stored as given: packing rounds nothing. Outputs are padded to 64 and inputs to 128, with weights of
zero or such that meet inputs of zero.
Shapes: P panels, B blocks of a panel, G groups of a block.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PANEL, BLOCK, SPAN, GROUP = 16, 256, 128, 32
PADDED_OUTPUTS = 64


@dataclass(frozen=True)
class Format:
    """One line of the table above; `index` is its number in formats.h."""

    index: int
    bits: int
    scale_inputs: int  # inputs that share a scale of their own
    is_affine: bool = False
    is_signed: bool = False

    @property
    def middle(self) -> int:
        """The code of weight zero, where there is no minimum."""
        return 0 if self.is_affine else 1 << (self.bits - 1)

    @property
    def has_blocks(self) -> bool:
        """Scales come in two levels."""
        return self.is_affine or self.is_signed


FORMATS = {
    "int4": Format(0, 4, 32, is_affine=True),
    "int5": Format(1, 5, 32, is_affine=True),
    "q4_0": Format(2, 4, 32),
    "q5_0": Format(3, 5, 32),
    "q6_k": Format(4, 6, 16, is_signed=True),
    "q8_0": Format(5, 8, 32),
    "int8": Format(6, 8, 128),
    "bf16": Format(7, 16, 1),
}


@dataclass(frozen=True)
class Quantized:
    """The integers and scales of a weight matrix [N, K] in one format."""

    format: str
    codes: Tensor  # uint8 [N, K]
    d: Tensor  # float16 [N, K / 256, rounded up] or one for each `scale_inputs`
    s: Tensor | None = None  # uint8 or int8 [N, K / scale_inputs]
    e: Tensor | None = None  # float16, like d
    t: Tensor | None = None  # uint8, like s

    def dequantize(self) -> Tensor:
        """The weights they stand for, fp32 [N, K]."""
        form = FORMATS[self.format]
        codes = self.codes.float() - form.middle
        scale = _spread(self.d, BLOCK if form.has_blocks else form.scale_inputs, codes)
        if self.s is not None:
            scale = scale * _spread(self.s, form.scale_inputs, codes)
        if self.e is None or self.t is None:
            return codes * scale
        return codes * scale - _spread(self.e, BLOCK, codes) * _spread(self.t, form.scale_inputs, codes)


def _spread(values: Tensor, inputs: int, like: Tensor) -> Tensor:
    return values.float().repeat_interleave(inputs, dim=1)[:, : like.size(1)]


def packed_shape(outputs: int, inputs: int) -> tuple[int, int]:
    """The outputs and inputs of a linear with their padding."""
    return -(-outputs // PADDED_OUTPUTS) * PADDED_OUTPUTS, -(-inputs // SPAN) * SPAN


def pack(weight: Quantized) -> Tensor:
    """The panels one after another, uint8 [P, bytes of a panel]."""
    form = FORMATS[weight.format]
    outputs, inputs = packed_shape(*weight.codes.shape)
    whole = inputs // BLOCK * BLOCK
    sections = []
    for start, end in ((0, whole), (whole, inputs)):
        if start == end:
            continue
        blocks = max((end - start) // BLOCK, 1)

        def cut(part: Tensor, inputs_each: int, start: int = start, end: int = end, blocks: int = blocks) -> Tensor:
            """[N, columns] of `inputs_each` inputs -> [P, B, columns of a block, 16]."""
            first, last = start // inputs_each, -(-end // inputs_each)
            part = part[:, first:last]
            part = F.pad(part, (0, last - first - part.size(1), 0, outputs - part.size(0)))
            return part.view(-1, PANEL, blocks, (last - first) // blocks).permute(0, 2, 3, 1)

        quads = F.pad(weight.codes, (0, inputs - weight.codes.size(1)), value=form.middle).view(torch.int32)
        vectors = cut(quads, 4).contiguous().view(torch.uint8).unflatten(2, (-1, 8))  # [P, B, G, 8, 64]
        sections += [torch.cat((*_scale_bytes(weight, form, cut), _code_bytes(vectors, form.bits)), dim=2).flatten(1)]
    return torch.cat(sections, dim=1)


def pack_dense(weight: Tensor) -> Tensor:
    """[N, K] in any float format → uint8 [P, bytes of a panel], bfloat16."""
    weight = F.pad(weight.bfloat16(), (0, -weight.size(1) % 2, 0, -weight.size(0) % PADDED_OUTPUTS))
    return weight.view(-1, PANEL, weight.size(1) // 2, 2).transpose(1, 2).contiguous().view(torch.uint8).flatten(1)


def unpack_dense(packed: Tensor, outputs: int, inputs: int) -> Tensor:
    """The inverse → bf16 [N, K]."""
    pairs = packed.view(torch.bfloat16).view(-1, -(-inputs // 2), PANEL, 2)
    return pairs.transpose(1, 2).reshape(-1, pairs.size(1) * 2)[:outputs, :inputs]


def _scale_bytes(weight: Quantized, form: Format, cut: Callable[[Tensor, int], Tensor]) -> Iterator[Tensor]:
    """The scales of every block, each uint8 [P, B, bytes]."""
    for part in (weight.d, weight.e):
        if part is not None:
            yield _bytes(cut(part, BLOCK if form.has_blocks else form.scale_inputs))
    parts = [cut(part, form.scale_inputs) for part in (weight.s, weight.t) if part is not None]
    if parts:
        yield _bytes(torch.stack(parts, dim=3))  # scales and minima of a group side by side


def _code_bytes(vectors: Tensor, bits: int) -> Tensor:
    """[P, B, G, 8, 64] codes -> uint8 [P, B, bytes]: the low four bits of two vectors together, then the high ones."""
    if bits == 8:
        return vectors.flatten(2)
    low = vectors & 15
    planes = [(low[..., :4, :] | low[..., 4:, :] << 4).flatten(3)]
    if bits == 5:
        planes.append(_joined((vectors >> 4).unflatten(-1, (8, 8)), 1).flatten(3))
    if bits == 6:
        planes.append(_joined((vectors >> 4).unflatten(3, (2, 4)).transpose(-1, -2), 2).flatten(3))
    return torch.cat(planes, dim=3).flatten(2)


def _joined(codes: Tensor, bits: int) -> Tensor:
    """The codes of the last dimension as one byte, the first lowest."""
    return (codes << torch.arange(0, 8, bits, dtype=torch.uint8)).sum(-1, dtype=torch.uint8)


def _bytes(part: Tensor) -> Tensor:
    return part.contiguous().view(torch.uint8).flatten(2)


def unpack(packed: Tensor, format: str, outputs: int, inputs: int) -> Quantized:
    """What `pack` was given, from its uint8 of any shape."""
    form = FORMATS[format]
    padded_outputs, padded_inputs = packed_shape(outputs, inputs)
    panels = packed.view(padded_outputs // PANEL, -1)
    whole = padded_inputs // BLOCK
    sections = []
    if whole:
        width = block_bytes(form, BLOCK)
        sections.append(_unpack_blocks(panels[:, : whole * width].unflatten(1, (whole, width)), form, BLOCK))
    if padded_inputs % BLOCK:
        rest = panels[:, -block_bytes(form, SPAN) :].unsqueeze(1)
        sections.append(_unpack_blocks(rest, form, SPAN))
    parts = [None if part[0] is None else torch.cat(part, 1)[:outputs] for part in zip(*sections, strict=True)]
    codes, d, s, e, t = parts
    assert codes is not None and d is not None
    small = -(-inputs // form.scale_inputs)
    s, t = (part if part is None else part[:, :small] for part in (s, t))
    return Quantized(format, codes[:, :inputs], d[:, : None if form.has_blocks else small], s, e, t)


def block_bytes(form: Format, inputs: int) -> int:
    """Bytes of a block of so many inputs (256 or 128) of one panel."""
    per_scale = inputs // form.scale_inputs * PANEL
    scales = (2 + 2 * form.is_affine) * PANEL + per_scale * (1 + form.is_affine) if form.has_blocks else 2 * per_scale
    return scales + inputs * PANEL * form.bits // 8


def _unpack_blocks(blocks: Tensor, form: Format, inputs: int) -> tuple[Tensor | None, ...]:
    """uint8 [P, B, bytes] → codes, d, s, e, t, each [N, columns]."""
    sizes, halves = [], 2 * PANEL
    per_scale = inputs // form.scale_inputs
    if form.is_affine:
        sizes = [halves, halves, 2 * PANEL * per_scale]
    elif form.is_signed:
        sizes = [halves, PANEL * per_scale]
    else:
        sizes = [halves * per_scale]
    *scales, codes = blocks.split([*sizes, blocks.size(2) - sum(sizes)], dim=2)

    def rows(part: Tensor) -> Tensor:
        """[P, B, columns, 16] → [N, B · columns]."""
        return part.permute(0, 3, 1, 2).flatten(0, 1).flatten(1)

    def floats(part: Tensor) -> Tensor:
        return rows(part.contiguous().view(torch.float16).unflatten(2, (-1, PANEL)))

    d = floats(scales[0])
    e = floats(scales[1]) if form.is_affine else None
    s = t = None
    if form.is_affine:
        s, t = (rows(part) for part in scales[2].unflatten(2, (-1, 2, PANEL)).unbind(3))
    elif form.is_signed:
        s = rows(scales[1].contiguous().view(torch.int8).unflatten(2, (-1, PANEL)))
    quads = _code_vectors(codes, form.bits).view(torch.int32).flatten(2, 3)  # [P, B, quads, 16]
    return rows(quads).contiguous().view(torch.uint8), d, s, e, t


def _code_vectors(codes: Tensor, bits: int) -> Tensor:
    """The inverse of `_code_bytes` → [P, B, G, 8, 64]."""
    if bits == 8:
        return codes.contiguous().unflatten(2, (-1, 8, 64))
    groups = codes.unflatten(2, (-1, 64 * bits))
    low = groups[..., :256].unflatten(3, (4, 64))
    vectors = torch.cat((low & 15, low >> 4), dim=3)
    high = groups[..., 256:]
    if bits == 5:
        vectors |= (high.unflatten(3, (8, 8))[..., None] >> torch.arange(8, dtype=torch.uint8) & 1).flatten(4) << 4
    if bits == 6:
        shifts = torch.arange(0, 8, 2, dtype=torch.uint8)[:, None]
        vectors |= (high.unflatten(3, (2, 1, 64)) >> shifts & 3).flatten(3, 4) << 4
    return vectors
