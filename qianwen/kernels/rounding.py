"""Round to nearest, and better: quantising a weight matrix by itself, without looking at data.

    int8          one scale per 128 inputs of an output, symmetric
    int4, int5    w ≈ S · code − M, with S and M per 32 inputs, themselves 8-bit multiples of two scales per 256 inputs

Plain rounding spreads the codes from a group's smallest to its largest weight. Less error is left if the range is
stretched or shrunk a little and S and M are then fitted to the codes by least squares: `search` ranges are tried and
the best kept, as llama.cpp does for its K-quants. An error counts times the `importance` of its input. Even without
data something is known of it: the norm before most linears multiplies input k by a learned g_k, so g_k² is its share.

Not here: the layout in memory (`packing.py`), and methods that look at activations (`gptq.py`).
Shapes: N outputs, K inputs, G groups of an output.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu import operators
from qianwen.kernels.packing import BLOCK, GROUP, SPAN, Quantized

CHUNK_ROWS = 256  # rows encoded at a time: intermediate arrays stay small
TINY = 1e-12
FINE_HALF = 2.0**-16  # below, float16 rounds too coarsely for eight bits to be worth their while


def quantize_int8(weight: Tensor) -> Quantized:
    """fp32 [N, K] → int8 with a scale per 128 inputs."""
    groups = _grouped(weight.float(), SPAN)
    d = (groups.abs().amax(-1, keepdim=True) / 127).half()
    codes = (groups / d.float().clamp_min(TINY)).round_().clamp_(-127, 127).add_(128).to(torch.uint8)
    return Quantized("int8", codes.flatten(1)[:, : weight.size(1)].contiguous(), d.squeeze(-1))


def quantize_affine(weight: Tensor, bits: int, importance: Tensor | None = None, search: int = 20) -> Quantized:
    """fp32 [N, K] → int4 or int5. `importance` [K] weighs the squared errors of the inputs."""
    top = 2**bits - 1
    inputs = weight.size(1)
    weight = F.pad(weight.float(), (0, -inputs % GROUP))
    weights = (
        torch.ones(weight.size(1)) if importance is None else F.pad(importance.float(), (0, -len(importance) % GROUP))
    )
    step, low = (operators.fit if operators.available() else fit)(weight, weights.contiguous(), top, search)
    d, s = _two_levels(step)
    e, t = _two_levels(low)
    codes = torch.empty(weight.shape, dtype=torch.uint8)
    for start in range(0, len(weight), CHUNK_ROWS):
        rows = slice(start, start + CHUNK_ROWS)
        step, low = _spread(d[rows], s[rows]), _spread(e[rows], t[rows])
        codes[rows] = _codes(weight[rows].unflatten(1, (-1, GROUP)), step, low, top).flatten(1)
    return Quantized(f"int{bits}", codes[:, :inputs].contiguous(), d, s, e, t)


def fit(weight: Tensor, importance: Tensor, top: int, search: int) -> tuple[Tensor, Tensor]:
    """Step S and minimum M ≥ 0 of every group of weight [N, K], each [N, K / 32]: what `kernels/grid.h` does faster."""
    groups, weights = weight.unflatten(1, (-1, GROUP)), importance.unflatten(0, (-1, GROUP))
    offset = (-groups.amin(-1)).clamp_min(0)
    span = groups.amax(-1).clamp_min(0) + offset
    mass, sum_w, sum_ww = weights.sum(-1), (weights * groups).sum(-1), (weights * groups * groups).sum(-1)
    best_step, best_low, best = span / top, offset, torch.full_like(span, torch.inf)
    for i in range(search):
        steps = top - 1 + (2 * i / (search - 1) if search > 1 else 1)
        q = ((groups + offset[..., None]) * (steps / span.clamp_min(TINY))[..., None]).round_().clamp_(0, top)
        wq = weights * q
        sum_q, sum_qq, sum_qw = wq.sum(-1), (wq * q).sum(-1), (wq * groups).sum(-1)
        # Least squares of S · q − M against w: two equations, two unknowns, and M must not be negative.
        determinant = mass * sum_qq - sum_q * sum_q
        low = (sum_q * sum_qw - sum_qq * sum_w) / determinant
        step = torch.where(low >= 0, (mass * sum_qw - sum_q * sum_w) / determinant, sum_qw / sum_qq)
        low = low.clamp_min(0)
        error = sum_ww + step**2 * sum_qq + low**2 * mass + 2 * (low * sum_w - step * sum_qw - step * low * sum_q)
        better = (error < best) & (step > 0)
        best = torch.where(better, error, best)
        best_step, best_low = torch.where(better, step, best_step), torch.where(better, low, best_low)
    return best_step, best_low


def _grouped(weight: Tensor, inputs: int) -> Tensor:
    """[N, K] → [N, G, inputs], the last group padded with zeros."""
    return F.pad(weight, (0, -weight.size(1) % inputs)).unflatten(1, (-1, inputs))


def _codes(groups: Tensor, step: Tensor, low: Tensor, top: int) -> Tensor:
    return ((groups + low[..., None]) / step[..., None].clamp_min(TINY)).round_().clamp_(0, top)


def _two_levels(values: Tensor) -> tuple[Tensor, Tensor]:
    """Values ≥ 0 [N, G] as float16 per block of 256 inputs times uint8."""
    blocks = F.pad(values, (0, -values.size(1) % (BLOCK // GROUP))).unflatten(1, (-1, BLOCK // GROUP))
    peak = blocks.amax(-1, keepdim=True)
    scale = torch.where(peak > 255 * FINE_HALF, peak / 255, peak / 63).half()
    small = (blocks / scale.float().clamp_min(TINY)).round_().clamp_(0, 255).to(torch.uint8)
    return scale.squeeze(-1), small.flatten(1)[:, : values.size(1)].contiguous()


def _spread(scale: Tensor, small: Tensor) -> Tensor:
    return scale.float().repeat_interleave(BLOCK // GROUP, 1)[:, : small.size(1)] * small
