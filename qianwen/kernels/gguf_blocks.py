"""The number formats inside a GGUF file: blocks of small integers and their scales.

A quantised row is cut into blocks; one block stores `d` (a float16 scale), perhaps `m` (a float16 minimum) and one
integer of 2 to 8 bits per weight:

    Q4_0 Q5_0 Q8_0        w = d · q                        32 weights, q signed
    Q4_1 Q5_1             w = d · q + m                    32 weights, q unsigned
    Q2_K Q4_K Q5_K        w = (d · s) · q − (m · t)        256 weights, s and t per 16 or 32 of them
    Q3_K Q6_K             w = (d · s) · q                  256 weights, s per 16 of them, q signed
    IQ4_NL                w = d · v[q]                     32 weights, v a table of sixteen values
    IQ4_XS                w = (d · s) · v[q]               256 weights, s per 32 of them
    MXFP4                 w = 2^(e − 128) · v[q]           32 weights, v twice the values of a four-bit float

The arithmetic is float32 in that order, so the results equal ggml's reference to the last bit. Bits above the fourth
are stored apart (`high`), and halves of a block interleave: byte j of a 32-block holds weights j and j + 16.

The formats with one to three bits (IQ1 to IQ3, ternary) need tables of a thousand entries, which llama.cpp's own
package `gguf` brings (`pip install 'qianwen[gguf]'`). Not here: the other direction
(`gguf_encoding.py`).
Shapes: n blocks; all functions work on uint8 arrays [n, bytes per block] and return float32 [n, weights per block].
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Codes = NDArray[Any]  # uint8 too, but NumPy's types lose that in a shift
Floats = NDArray[np.float32]

CHUNK_BYTES = 1 << 18  # of packed input decoded at a time: intermediate arrays then stay inside the L2 cache


class BlockFormat(NamedTuple):
    """One ggml type: its number in the file, its geometry, and how to read it back."""

    code: int
    weights: int  # per block
    bytes: int  # per block
    decode: Callable[[Bytes], Floats]


def _float16(blocks: Bytes, start: int) -> Floats:
    """The float16 at byte `start` of every block -> [n, 1] float32."""
    return blocks[:, start : start + 2].copy().view(np.float16).astype(np.float32)


def nibbles(packed: Bytes, group: int) -> Codes:
    """[n, bytes] -> [n, 2 · bytes]: per `group` bytes, first all low halves, then all high halves."""
    packed = packed.reshape(len(packed), -1, 1, group)
    return (packed >> np.array([0, 4], np.uint8).reshape(2, 1) & 15).reshape(len(packed), -1)


def bit_planes(packed: Bytes, bits: int, group: int) -> Codes:
    """[n, bytes] -> [n, 8 / bits · bytes]: per `group` bytes, all lowest `bits`, then all the next ones."""
    packed = packed.reshape(len(packed), -1, 1, group)
    shifts = np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    return (packed >> shifts & ((1 << bits) - 1)).reshape(len(packed), -1)


def _f32(blocks: Bytes) -> Floats:
    return blocks.view(np.float32)


def _f16(blocks: Bytes) -> Floats:
    return blocks.view(np.float16).astype(np.float32)


def _bf16(blocks: Bytes) -> Floats:
    return (blocks.view(np.uint16).astype(np.uint32) << 16).view(np.float32)


def _q8_0(blocks: Bytes) -> Floats:
    return blocks[:, 2:].view(np.int8) * _float16(blocks, 0)


def _q4_0(blocks: Bytes) -> Floats:
    return (nibbles(blocks[:, 2:], 16).view(np.int8) - np.int8(8)) * _float16(blocks, 0)


def _q4_1(blocks: Bytes) -> Floats:
    return nibbles(blocks[:, 4:], 16) * _float16(blocks, 0) + _float16(blocks, 2)


def five_bits(high: Bytes, low: Bytes) -> Codes:
    """Weight j of 32 has its fifth bit in bit j of the little-endian word `high` [n, 4]."""
    return nibbles(low, 16) | np.unpackbits(high, axis=1, bitorder="little") << 4


def _q5_0(blocks: Bytes) -> Floats:
    return (five_bits(blocks[:, 2:6], blocks[:, 6:]).view(np.int8) - np.int8(16)) * _float16(blocks, 0)


def _q5_1(blocks: Bytes) -> Floats:
    return five_bits(blocks[:, 4:8], blocks[:, 8:]) * _float16(blocks, 0) + _float16(blocks, 2)


def _scaled(codes: NDArray, scales: Floats, minima: Floats | None = None) -> Floats:
    """`codes` [n, 256] times a scale (and less a minimum) per group; `scales`, `minima` [n, groups]."""
    weights = codes.reshape(*scales.shape, -1) * scales[:, :, None]
    if minima is not None:
        weights -= minima[:, :, None]
    return weights.reshape(len(codes), -1)


def _q2_k(blocks: Bytes) -> Floats:
    scales, codes = blocks[:, :16], bit_planes(blocks[:, 16:80], 2, 32)
    return _scaled(codes, _float16(blocks, 80) * (scales & 15), _float16(blocks, 82) * (scales >> 4))


def q3_k_parts(blocks: Bytes) -> tuple[Codes, Codes]:
    """Codes from −4 to 3, [n, 256], and signed scales of each group of 16 weights, [n, 16]."""
    high, low, packed = blocks[:, :32], blocks[:, 32:96], blocks[:, 96:108]
    # A clear high bit means "minus four": the code is low + 4 · high − 4.
    codes = (bit_planes(low, 2, 32) | bit_planes(high, 1, 32) << 2).view(np.int8) - np.int8(4)
    # 16 six-bit scales: four low bits in bytes 0..7 (low then high halves), two high bits in bytes 8..11.
    scales = (nibbles(packed[:, :8], 8) | bit_planes(packed[:, 8:], 2, 4) << 4).view(np.int8) - np.int8(32)
    return codes, scales


def _q3_k(blocks: Bytes) -> Floats:
    codes, scales = q3_k_parts(blocks)
    return _scaled(codes, _float16(blocks, 108) * scales)


def scales_and_minima(packed: Bytes) -> tuple[Codes, Codes]:
    """Twelve bytes -> eight six-bit scales and eight six-bit minima, the layout Q4_K and Q5_K share.

    Bytes 0..3 and 4..7 hold the first four of each in their low six bits; the others have their low halves in bytes
    8..11 and their two high bits on top of the first four.
    """
    first, second, low = packed[:, :4], packed[:, 4:8], packed[:, 8:]
    scales = np.concatenate([first & 63, (low & 15) | first >> 6 << 4], axis=1)
    return scales, np.concatenate([second & 63, (low >> 4) | second >> 6 << 4], axis=1)


def _q4_k(blocks: Bytes) -> Floats:
    scales, minima = scales_and_minima(blocks[:, 4:16])
    return _scaled(nibbles(blocks[:, 16:], 32), _float16(blocks, 0) * scales, _float16(blocks, 2) * minima)


def _q5_k(blocks: Bytes) -> Floats:
    scales, minima = scales_and_minima(blocks[:, 4:16])
    codes = nibbles(blocks[:, 48:], 32) | bit_planes(blocks[:, 16:48], 1, 32) << 4
    return _scaled(codes, _float16(blocks, 0) * scales, _float16(blocks, 2) * minima)


def _q6_k(blocks: Bytes) -> Floats:
    low, high, scales = blocks[:, :128], blocks[:, 128:192], blocks[:, 192:208].view(np.int8)
    codes = (nibbles(low, 64) | bit_planes(high, 2, 32) << 4).view(np.int8) - np.int8(32)
    return _scaled(codes, _float16(blocks, 208) * scales)


# The values that the codes of IQ4 stand for: closer together around zero, where most weights are.
IQ4_VALUES = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
MXFP4_VALUES = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.float32)


def _iq4_nl(blocks: Bytes) -> Floats:
    return IQ4_VALUES[nibbles(blocks[:, 2:], 16)] * _float16(blocks, 0)


def iq4_xs_scales(blocks: Bytes) -> Floats:
    """d · s of each group of 32 weights, [n, 8]; s has four bits in bytes 4..7 and two in bytes 2..3."""
    scales = (nibbles(blocks[:, 4:8], 1) | bit_planes(blocks[:, 2:4], 2, 1) << 4).view(np.int8) - np.int8(32)
    return _float16(blocks, 0) * scales


def _iq4_xs(blocks: Bytes) -> Floats:
    return _scaled(IQ4_VALUES[nibbles(blocks[:, 8:], 16)], iq4_xs_scales(blocks))


def _mxfp4(blocks: Bytes) -> Floats:
    return np.ldexp(MXFP4_VALUES[nibbles(blocks[:, 1:], 16)], blocks[:, :1].astype(np.int32) - 128)


def _by_library(type: str) -> Callable[[Bytes], Floats]:
    def decode(blocks: Bytes) -> Floats:
        from gguf import GGMLQuantizationType, quants  # an optional package: most files do not need it

        return quants.dequantize(blocks, GGMLQuantizationType[type])

    return decode


# Formats that `gguf` decodes: number in the file, weights and bytes of a block.
LIBRARY_FORMATS = {
    "IQ1_S": (19, 256, 50),
    "IQ1_M": (29, 256, 56),
    "IQ2_XXS": (16, 256, 66),
    "IQ2_XS": (17, 256, 74),
    "IQ2_S": (22, 256, 82),
    "IQ3_XXS": (18, 256, 98),
    "IQ3_S": (21, 256, 110),
    "TQ1_0": (34, 256, 54),
    "TQ2_0": (35, 256, 66),
}

FORMATS: dict[str, BlockFormat] = {
    "F32": BlockFormat(0, 1, 4, _f32),
    "F16": BlockFormat(1, 1, 2, _f16),
    "BF16": BlockFormat(30, 1, 2, _bf16),
    "Q4_0": BlockFormat(2, 32, 18, _q4_0),
    "Q4_1": BlockFormat(3, 32, 20, _q4_1),
    "Q5_0": BlockFormat(6, 32, 22, _q5_0),
    "Q5_1": BlockFormat(7, 32, 24, _q5_1),
    "Q8_0": BlockFormat(8, 32, 34, _q8_0),
    "Q2_K": BlockFormat(10, 256, 84, _q2_k),
    "Q3_K": BlockFormat(11, 256, 110, _q3_k),
    "Q4_K": BlockFormat(12, 256, 144, _q4_k),
    "Q5_K": BlockFormat(13, 256, 176, _q5_k),
    "Q6_K": BlockFormat(14, 256, 210, _q6_k),
    "IQ4_NL": BlockFormat(20, 32, 18, _iq4_nl),
    "IQ4_XS": BlockFormat(23, 256, 136, _iq4_xs),
    "MXFP4": BlockFormat(39, 32, 17, _mxfp4),
    **{name: BlockFormat(*geometry, _by_library(name)) for name, geometry in LIBRARY_FORMATS.items()},
}


def dequantize(raw: Bytes, type: str) -> Iterator[Floats]:
    """Decode `raw` [rows, bytes per row] a piece at a time -> the weights in order, as flat float32 arrays."""
    form = FORMATS[type]
    blocks = raw.reshape(-1, form.bytes)
    step = max(CHUNK_BYTES // form.bytes, 1)
    for start in range(0, len(blocks), step):
        yield form.decode(np.array(blocks[start : start + step])).reshape(-1)
