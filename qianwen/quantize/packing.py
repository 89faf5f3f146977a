"""How quantised weights lie in memory: the layout that `kernels/formats.h` reads, written and read back with PyTorch.

A linear of N outputs and K inputs becomes panels of 16 outputs, a panel blocks of 256 inputs (the last may have 128):

    panel = block, block, …        block = scales of all its groups | codes of all its groups, 32 inputs each

and a weight is its code times the group's scale, less a minimum:

    format        bits/weight  weight                     scales
    int4, int5    4.6, 5.6     d·s · code − e·t           d, e float16 per block; s, t uint8 per 32 inputs
    q4_0, q5_0    4.5, 5.5     d · (code − middle)        d float16 per 32
    q6_k          6.6          d·s · (code − middle)      d float16 per block, s int8 per 16
    q8_0, int8    8.5, 8.1     d · (code − middle)        d float16 per 32, per 128

Everything is stored as given: packing rounds nothing. Outputs are padded to 64 and inputs to 128 with weights of zero.
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

        quads = F.pad(weight.codes, (0, -weight.codes.size(1) % 4)).view(torch.int32)
        vectors = cut(quads, 4).contiguous().view(torch.uint8).unflatten(2, (-1, 8))  # [P, B, G, 8, 64]
        sections += [torch.cat((*_scale_bytes(weight, form, cut), _code_bytes(vectors, form.bits)), dim=2).flatten(1)]
    return torch.cat(sections, dim=1)


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
