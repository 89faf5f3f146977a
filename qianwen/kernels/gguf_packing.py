"""GGUF's blocks of small integers → our packed layout, value for value.

    Q4_K Q5_K        → int4, int5     the same two levels of scales and minima, six bits widened to eight
    Q4_0 Q5_0 Q8_0   → q4_0, q5_0, q8_0
    Q3_K Q6_K        → q6_k
    IQ4_NL IQ4_XS    → q8_0: the values of the table as codes of eight bits

Nothing is rounded: the packed weights dequantise to the same numbers as the file's, to the last bit. The exception is
IQ4_XS: the scale of a group is a product of a float16 and a small integer, which is rounded to float16 (one part in
2,048 at most). What is in other formats has no layout of its own here and is quantised anew by the caller.
"""

import numpy as np
import torch
from torch import Tensor

from qianwen.kernels.gguf_blocks import (
    FORMATS,
    IQ4_VALUES,
    Bytes,
    bit_planes,
    five_bits,
    iq4_xs_scales,
    nibbles,
    q3_k_parts,
    scales_and_minima,
)
from qianwen.kernels.packing import Quantized


def transcode(type: str, raw: Bytes) -> Quantized | None:
    """The integers and scales of a matrix of GGUF type `type`, or None if that type has no packed layout.

    raw [rows, bytes of a row], uint8, as in the file.
    """
    read = READERS.get(type)
    if read is None:
        return None
    return read(np.ascontiguousarray(raw).reshape(-1, FORMATS[type].bytes), len(raw))


def _rows(values: np.ndarray, rows: int) -> Tensor:
    """[blocks, numbers of a block] → [rows, numbers of a row]."""
    return torch.from_numpy(np.ascontiguousarray(values)).view(rows, -1)


def _halves(blocks: Bytes, start: int, rows: int) -> Tensor:
    return _rows(blocks[:, start : start + 2].copy().view(np.float16), rows)


def _simple(name: str, codes: np.ndarray, blocks: Bytes, rows: int) -> Quantized:
    return Quantized(name, _rows(codes, rows), _halves(blocks, 0, rows))


def _q4_0(blocks: Bytes, rows: int) -> Quantized:
    return _simple("q4_0", nibbles(blocks[:, 2:], 16), blocks, rows)


def _q5_0(blocks: Bytes, rows: int) -> Quantized:
    return _simple("q5_0", five_bits(blocks[:, 2:6], blocks[:, 6:]), blocks, rows)


def _q8_0(blocks: Bytes, rows: int) -> Quantized:
    return _simple("q8_0", blocks[:, 2:] ^ 128, blocks, rows)  # signed bytes as unsigned ones around 128


def _affine(name: str, codes: np.ndarray, blocks: Bytes, rows: int) -> Quantized:
    scales, minima = scales_and_minima(blocks[:, 4:16])
    d, e = (_halves(blocks, start, rows) for start in (0, 2))
    return Quantized(name, _rows(codes, rows), d, _rows(scales, rows), e, _rows(minima, rows))


def _q4_k(blocks: Bytes, rows: int) -> Quantized:
    return _affine("int4", nibbles(blocks[:, 16:], 32), blocks, rows)


def _q5_k(blocks: Bytes, rows: int) -> Quantized:
    return _affine("int5", nibbles(blocks[:, 48:], 32) | bit_planes(blocks[:, 16:48], 1, 32) << 4, blocks, rows)


def _q6_k(blocks: Bytes, rows: int) -> Quantized:
    codes = nibbles(blocks[:, :128], 64) | bit_planes(blocks[:, 128:192], 2, 32) << 4
    scales = _rows(blocks[:, 192:208].view(np.int8), rows)
    return Quantized("q6_k", _rows(codes, rows), _halves(blocks, 208, rows), scales)


def _q3_k(blocks: Bytes, rows: int) -> Quantized:
    codes, scales = q3_k_parts(blocks)
    return Quantized(
        "q6_k", _rows((codes + np.int8(32)).view(np.uint8), rows), _halves(blocks, 108, rows), _rows(scales, rows)
    )


def _iq4_codes(packed: Bytes) -> np.ndarray:
    return IQ4_VALUES.view(np.uint8)[nibbles(packed, 16)] ^ 128


def _iq4_nl(blocks: Bytes, rows: int) -> Quantized:
    return _simple("q8_0", _iq4_codes(blocks[:, 2:]), blocks, rows)


def _iq4_xs(blocks: Bytes, rows: int) -> Quantized:
    return Quantized("q8_0", _rows(_iq4_codes(blocks[:, 8:]), rows), _rows(iq4_xs_scales(blocks), rows).half())


READERS = {
    "Q4_0": _q4_0,
    "Q5_0": _q5_0,
    "Q8_0": _q8_0,
    "Q3_K": _q3_k,
    "Q4_K": _q4_k,
    "Q5_K": _q5_k,
    "Q6_K": _q6_k,
    "IQ4_NL": _iq4_nl,
    "IQ4_XS": _iq4_xs,
}
