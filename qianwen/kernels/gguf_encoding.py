"""Weights → the blocks of a GGUF file: scales are searched, so that less error is left than by plain rounding.

    F32 F16 BF16 Q8_0     rounded to nearest, to the bytes of ggml's reference
    Q4_0 Q5_0             a scale per 32 weights
    Q5_1                  a scale and a minimum per 32 weights
    Q6_K                  a scale per 16 weights, an 8-bit multiple of one per 256
    Q4_K Q5_K             a scale and a minimum per 32 weights, 6-bit multiples of two per 256

For each group several ranges are tried; codes follow from the range, and the scale from the codes by least squares.
The squared error of a weight counts times the `importance` of its input: the mean square of the activations there, so
the sum is the expected squared error of the output if inputs are not correlated. Without it all inputs count the same.

The bytes are those that `gguf_blocks.py` decodes. Shapes: N rows of K weights, G groups of a row, n weights of a group.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from qianwen.kernels import rounding
from qianwen.kernels.cpu import operators
from qianwen.kernels.gguf_blocks import Bytes, Codes, Floats, dequantize

SPAN, SUPER = 32, 256  # weights of a block and of a K-quant's block
CHUNK_WEIGHTS = 1 << 18  # encoded at a time
RANGES = 16  # ranges tried for each group
WIDEST, NARROWEST = 1.15, 0.7  # ranges tried, as shares of the largest weight of a group
TINY = 1e-30
Encode = Callable[[Tensor, Tensor], Bytes]  # weight [N, K], importance [K] → [N, bytes per row]


def quantize(weight: Tensor, type: str, importance: Tensor | None = None) -> Bytes:
    """fp32 [N, K] → uint8 [N, bytes per row]; K must be whole blocks of `type`. `importance` [K] is not negative."""
    weight = weight.detach().float().contiguous()
    weights = torch.ones(weight.size(1)) if importance is None else importance.float()
    # A group whose inputs were never active still needs a scale: no input counts less than a thousandth of the mean.
    return ENCODERS[type](weight, ((weights + TINY) / (weights.mean() + TINY)).clamp_min(1e-3))


def rounded(weight: Tensor, type: str, importance: Tensor | None = None) -> Tensor:
    """The weights that a file of `type` would hold, fp32 [N, K] on the CPU."""
    parts = weight.detach().to("cpu", torch.float32).split(max(CHUNK_WEIGHTS // weight.size(1), 1))
    return torch.cat([_restored(quantize(part, type, importance), type).view_as(part) for part in parts])


def _restored(raw: Bytes, type: str) -> Tensor:
    return torch.from_numpy(np.concatenate(list(dequantize(raw, type))))


# ---- scales and codes -------------------------------------------------------------------------------------------


def _signed_scales(weight: Tensor, importance: Tensor, size: int, bits: int) -> Tensor:
    """The scale of every group of `size` weights for codes −2^(bits−1) … 2^(bits−1) − 1, fp32 [N, K / size].

    The weight of largest magnitude is mapped to the lowest code, which reaches one step further; so the scale may be
    negative.
    """
    groups, weights = weight.unflatten(1, (-1, size)), importance.unflatten(0, (-1, size))
    half = 2 ** (bits - 1)
    peak = groups.gather(-1, groups.abs().argmax(-1, keepdim=True))
    weighted = groups * weights
    best, scale = torch.zeros(groups.shape[:2]), torch.zeros(groups.shape[:2])
    codes, products = torch.empty_like(groups), torch.empty_like(groups)  # used again for every range

    def moments(inverse: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted Σ w · q and Σ q² of every group, for the codes q of these inverse scales [N, K / size, 1]."""
        torch.mul(groups, inverse, out=codes).round_().clamp_(-half, half - 1)
        matched = torch.mul(weighted, codes, out=products).sum(-1)
        return matched, codes.square_().mul_(weights).sum(-1)

    for share in torch.linspace(NARROWEST, WIDEST, RANGES).tolist():
        matched, squares = moments(torch.where(peak == 0, 0, -half / (share * peak)))
        gain = torch.where(squares > 0, matched.square() / squares, 0)  # by how much these codes lower the error
        better = gain > best
        best = torch.where(better, gain, best)
        scale = torch.where(better, matched / squares, scale)
    # The scale is now between the tried ranges; once more, codes from the scale and the scale from the codes.
    matched, squares = moments(_inverse(scale)[..., None])
    return torch.where(squares > 0, matched / squares, scale)


def _signed_codes(weight: Tensor, scale: Tensor, bits: int) -> Codes:
    """The nearest codes under the scales [N, G] as they are stored, uint8 [N, K] around 2^(bits−1)."""
    half, groups = 2 ** (bits - 1), weight.unflatten(1, (scale.size(1), -1))
    codes = (groups * _inverse(scale)[..., None]).round_().clamp_(-half, half - 1)
    return (codes + half).to(torch.uint8).flatten(1).numpy()


def _affine_codes(weight: Tensor, step: Tensor, low: Tensor, bits: int) -> Codes:
    groups = weight.unflatten(1, (step.size(1), -1))
    codes = ((groups + low[..., None]) * _inverse(step)[..., None]).round_().clamp_(0, 2**bits - 1)
    return codes.to(torch.uint8).flatten(1).numpy()


def _fitted(weight: Tensor, importance: Tensor, bits: int) -> tuple[Tensor, Tensor]:
    """Step and minimum ≥ 0 of every group of 32 weights, each [N, K / 32]."""
    fit = operators.fit if operators.available() else rounding.fit
    return fit(weight, importance.contiguous(), 2**bits - 1, RANGES)


def _multiples(values: Tensor, count: int, top: int) -> tuple[Tensor, Tensor]:
    """[N, G] as float16 per `count` groups [N, G / count] times whole numbers of magnitude ≤ `top` [N, G]."""
    blocks = values.unflatten(1, (-1, count))
    peak = blocks.gather(-1, blocks.abs().argmax(-1, keepdim=True))
    scale = (peak / top).half()
    whole = (blocks * _inverse(scale.float())).round_().clamp_(-top, top)
    return scale.squeeze(-1), whole.flatten(1)


def _inverse(scale: Tensor) -> Tensor:
    return torch.where(scale == 0, 0, 1 / scale)


# ---- bytes ------------------------------------------------------------------------------------------------------


def _halves(values: Tensor) -> Bytes:
    """Scales [N, B] → their float16 [N · B, 2]."""
    return values.half().numpy().reshape(-1, 1).view(np.uint8)


def _planes(codes: Codes, bits: int, group: int) -> Codes:
    """[n, codes] → [n, bytes]: of `8 / bits · group` codes, the first `group` are the lowest bits of as many bytes."""
    parts = codes.reshape(len(codes), -1, 8 // bits, group) << np.arange(0, 8, bits, dtype=np.uint8).reshape(-1, 1)
    return np.bitwise_or.reduce(parts, axis=2).reshape(len(codes), -1)


def _rows(weight: Tensor, *parts: Codes) -> Bytes:
    """Blocks [n, bytes of a part] side by side, as rows of the matrix."""
    return np.ascontiguousarray(np.concatenate(parts, axis=1)).reshape(len(weight), -1)


def _fifth_bits(codes: Codes) -> Codes:
    return np.packbits(codes >> 4, axis=1, bitorder="little")


def _six_bit_pairs(scales: Tensor, minima: Tensor) -> Codes:
    """Eight scales and eight minima of six bits → twelve bytes; see `gguf_blocks.scales_and_minima`."""
    s, t = (values.to(torch.uint8).numpy().reshape(-1, 8) for values in (scales, minima))
    first, second = (part[:, :4] | part[:, 4:] >> 4 << 6 for part in (s, t))
    return np.concatenate([first, second, (s[:, 4:] & 15) | (t[:, 4:] & 15) << 4], axis=1)


# ---- formats ----------------------------------------------------------------------------------------------------


def _to_bf16(weight: Tensor, importance: Tensor) -> Bytes:
    return weight.bfloat16().view(torch.uint8).numpy()


def _to_q8_0(weight: Tensor, importance: Tensor) -> Bytes:
    """The largest magnitude becomes 127; halves are rounded away from zero."""
    blocks: Floats = weight.numpy().reshape(-1, SPAN)
    scale = np.abs(blocks).max(axis=1, keepdims=True) / np.float32(127)
    scaled = blocks * np.divide(1, scale, out=np.zeros_like(scale), where=scale != 0)
    codes = np.trunc(scaled + np.copysign(np.float32(0.5), scaled)).astype(np.int8)
    return _rows(weight, scale.astype(np.float16).view(np.uint8), codes.view(np.uint8))


def _to_q4_0(weight: Tensor, importance: Tensor) -> Bytes:
    scale = _signed_scales(weight, importance, SPAN, 4).half()
    codes = _signed_codes(weight, scale.float(), 4).reshape(-1, SPAN)
    return _rows(weight, _halves(scale), _planes(codes, 4, 16))


def _to_q5_0(weight: Tensor, importance: Tensor) -> Bytes:
    scale = _signed_scales(weight, importance, SPAN, 5).half()
    codes = _signed_codes(weight, scale.float(), 5).reshape(-1, SPAN)
    return _rows(weight, _halves(scale), _fifth_bits(codes), _planes(codes & 15, 4, 16))


def _to_q5_1(weight: Tensor, importance: Tensor) -> Bytes:
    step, low = (values.half() for values in _fitted(weight, importance, 5))
    codes = _affine_codes(weight, step.float(), low.float(), 5).reshape(-1, SPAN)
    return _rows(weight, _halves(step), _halves(-low), _fifth_bits(codes), _planes(codes & 15, 4, 16))


def _to_q6_k(weight: Tensor, importance: Tensor) -> Bytes:
    d, s = _multiples(_signed_scales(weight, importance, 16, 6), 16, 127)
    codes = _signed_codes(weight, d.float().repeat_interleave(16, 1) * s, 6).reshape(-1, SUPER)
    scales = s.to(torch.int8).numpy().view(np.uint8).reshape(-1, 16)
    return _rows(weight, _planes(codes & 15, 4, 64), _planes(codes >> 4, 2, 32), scales, _halves(d))


def _k_quant(weight: Tensor, importance: Tensor, bits: int) -> tuple[Codes, Codes]:
    """The head of each block of Q4_K or Q5_K (two scales, twelve bytes) and its codes [n, 256]."""
    (d, s), (e, t) = (_multiples(values, 8, 63) for values in _fitted(weight, importance, bits))
    step = d.float().repeat_interleave(8, 1) * s
    t = torch.where(step == 0, 0, t)  # a step below float16: all codes would be the minimum
    low = e.float().repeat_interleave(8, 1) * t
    codes = _affine_codes(weight, step, low, bits).reshape(-1, SUPER)
    return np.concatenate([_halves(d), _halves(e), _six_bit_pairs(s, t)], axis=1), codes


def _to_q4_k(weight: Tensor, importance: Tensor) -> Bytes:
    head, codes = _k_quant(weight, importance, 4)
    return _rows(weight, head, _planes(codes, 4, 32))


def _to_q5_k(weight: Tensor, importance: Tensor) -> Bytes:
    head, codes = _k_quant(weight, importance, 5)
    return _rows(weight, head, _planes(codes >> 4, 1, 32), _planes(codes & 15, 4, 32))


ENCODERS: dict[str, Encode] = {
    "F32": lambda weight, importance: weight.view(torch.uint8).numpy(),
    "F16": lambda weight, importance: weight.half().view(torch.uint8).numpy(),
    "BF16": _to_bf16,
    "Q8_0": _to_q8_0,
    "Q4_0": _to_q4_0,
    "Q5_0": _to_q5_0,
    "Q5_1": _to_q5_1,
    "Q6_K": _to_q6_k,
    "Q4_K": _to_q4_k,
    "Q5_K": _to_q5_k,
}
