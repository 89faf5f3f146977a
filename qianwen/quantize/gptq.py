"""GPTQ: round weights so that the outputs change least (Frantar et al. 2022; the released Int4 and Int8 models).

The error of a linear on its inputs X is |ΔW X|² = ΔW H ΔWᵀ with H = X Xᵀ. The columns of W are rounded one after
another. After each one, the columns that are not rounded yet are updated to compensate its error, by the inverse of the
remaining part of H:

    e = (w_i − q_i) / U_ii        W_j −= e · U_ij  for all j > i        U: upper Cholesky factor of H⁻¹

Inputs are processed in blocks of 128: inside a block the updates are immediate, and the columns after it get the sum of
the block's errors in one product. The grid of a group is chosen at its first input, from the updated weights. With
`search` it is the best of several ranges below and at the largest weight; the error of an input is weighted by its mean
square in X. With `act_order` the inputs with the largest mean square come first, while most columns can compensate.
The groups then remain neighbouring inputs (static groups) with grids chosen at the start, so the file layout and the
speed are the same.

`nearest` rounds each weight to the nearest code of the same grids: the baseline. Not here: how H is computed
(`calibration.py`), and the passes after all inputs are rounded (`coordinate_descent.py`).
Shapes: N outputs, K inputs, G groups.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.model.linears.gptq_layout import BITS, Groups, group_order
from qianwen.quantize.coordinate_descent import refine
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

BLOCK = 128  # inputs whose errors are applied to the later columns in one product
# Fractions of a group's range that a search compares. At 15/14 the largest weight of a symmetric four-bit group is
# exactly a code.
SHARES = (1.0, 15 / 14, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6)
ATTEMPTS = 6  # values of the damping, each ten times the previous one, until H has an inverse


@dataclass(frozen=True, kw_only=True)
class GptqConfig:
    """The grid and the solver. By default grid and layout are those of the released models. These were made with a
    damping of 0.01, in the order of the inputs, without search and without passes."""

    bits: int = 4
    group_size: int = 128  # inputs with one scale; -1: all inputs
    sym: bool = True  # symmetric: the middle code is zero
    damp_percent: float = 0.1  # fraction of the mean of H's diagonal that is added to the diagonal
    act_order: bool = True  # round the inputs with the largest activations first
    search: bool = True  # clip the largest weights of a group if that lowers the error
    passes: int = 2  # passes over all codes and scales after the last input is rounded

    def __post_init__(self) -> None:
        if self.bits not in BITS:
            known = ", ".join(map(str, BITS))
            raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=self.bits, known=known))
        if self.group_size != -1 and (self.group_size < 32 or self.group_size % 32):
            message = "group_size = {size} is neither a multiple of 32 nor -1 (one group of all inputs)"
            raise ConfigError(tr(message, size=self.group_size))
        if not 0 < self.damp_percent < 1:
            raise ConfigError(tr("damp_percent = {value} is not between 0 and 1", value=self.damp_percent))
        if self.passes < 0:
            raise ConfigError(tr("passes = {value} must be at least 0", value=self.passes))

    def size(self, inputs: int) -> int:
        """The number of inputs of a group, in a matrix with this number of inputs."""
        return inputs if self.group_size == -1 else min(self.group_size, inputs)


class Hessian:
    """Σ x xᵀ over the inputs of a linear, fp32 [K, K], and their number."""

    def __init__(self, inputs: int, device: torch.device | str = "cpu") -> None:
        self.sum = torch.zeros(inputs, inputs, device=device)
        self.count = 0

    def add(self, x: Tensor) -> None:
        """x [..., K] of any float type."""
        has_few_digits = x.dtype == torch.bfloat16
        x = x.reshape(-1, x.size(-1)).float()
        with _bfloat16_factors() if has_few_digits else nullcontext():
            self.sum.addmm_(x.T, x)
        self.count += len(x)

    def mean(self) -> Tensor:
        return self.sum / max(self.count, 1)


@contextmanager
def _bfloat16_factors() -> Iterator[None]:
    """Inside, fp32 products round their factors to bfloat16, but not the sums: exact for factors that were bfloat16."""
    backends: Any = torch.backends
    before = backends.mkldnn.matmul.fp32_precision
    backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        backends.mkldnn.matmul.fp32_precision = before


def nearest(weight: Tensor, config: GptqConfig) -> Groups:
    """Round every weight [N, K] to the nearest code of its group's grid."""
    rows, size = weight.float().T, config.size(weight.size(1))
    scales, zeros = _grids(rows, size, config)
    group_of = group_order(len(rows), size, weight.device)
    codes = _codes(rows, scales.float()[group_of.long()], zeros[group_of.long()], config.bits)
    return _groups(codes, scales, zeros, group_of, config)


def gptq(weight: Tensor, hessian: Tensor, config: GptqConfig) -> Groups:
    """Codes for `weight` [N, K] with a small change of its outputs, for inputs with this H [K, K]."""
    inputs = weight.size(1)
    size, unused = config.size(inputs), hessian.diagonal() == 0
    group_of = group_order(inputs, size, weight.device)
    target = torch.where(unused, 0, weight.float())
    rows = target.T.contiguous()  # [K, N], so that each input is a contiguous row
    importance = hessian.diagonal() if config.search else None
    scales, zeros = _grids(rows, size, config, importance if config.act_order else None)
    order = torch.arange(inputs, device=weight.device)
    if config.act_order:
        order = hessian.diagonal().argsort(descending=True)
    rows, group = rows[order], group_of[order].tolist()
    hessian, upper = _factored(hessian, unused, order, config.damp_percent)
    codes = torch.empty_like(rows)
    for start in range(0, inputs, BLOCK):
        end = min(start + BLOCK, inputs)
        errors = rows.new_empty(end - start, rows.size(1))
        for i in range(start, end):
            if not config.act_order and i % size == 0:
                in_group = slice(i, i + size)
                grid = _grids(rows[in_group], size, config, None if importance is None else importance[in_group])
                scales[group[i]], zeros[group[i]] = (part[0] for part in grid)
            scale, zero = scales[group[i]].float(), zeros[group[i]]
            codes[i] = _codes(rows[i], scale, zero, config.bits)
            errors[i - start] = (rows[i] - (codes[i] - zero) * scale) / upper[i, i]
            rows[i + 1 : end].addr_(upper[i, i + 1 : end], errors[i - start], alpha=-1)
        rows[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    groups = _groups(codes[order.argsort()], scales, zeros, group_of, config)
    return refine(target, groups, hessian, config.passes) if config.passes else groups


def _groups(codes: Tensor, scales: Tensor, zeros: Tensor, group_of: Tensor, config: GptqConfig) -> Groups:
    """Transpose from inputs first to outputs first, and convert to the stored types."""
    codes, zeros = codes.to(torch.uint8), zeros.to(torch.uint8)
    return Groups(config.bits, codes.T.contiguous(), scales.T.contiguous(), zeros.T.contiguous(), group_of)


def _grids(rows: Tensor, size: int, config: GptqConfig, importance: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale (fp16, as stored) and zero of each group of fp32 [K, N], both [G, N]; with `importance` [K] by search."""
    groups = F.pad(rows, (0, 0, 0, -len(rows) % size)).unflatten(0, (-1, size))
    low, high = groups.amin(1).clamp_max(0), groups.amax(1).clamp_min(0)
    if config.sym:
        high = torch.maximum(-low, high)
        low = -high
    scale, zero = _grid(low, high, config)
    if importance is None:
        return scale, zero
    weights = F.pad(importance, (0, -len(rows) % size)).view(-1, size, 1)
    lowest = torch.full_like(low, torch.inf)
    for share in SHARES:
        grid = _grid(low * share, high * share, config)
        step, middle = grid[0].float()[:, None], grid[1][:, None]
        error = ((_codes(groups, step, middle, config.bits) - middle) * step - groups).square_().mul_(weights).sum(1)
        better = error < lowest
        lowest, scale, zero = (
            torch.where(better, new, old) for new, old in zip((error, *grid), (lowest, scale, zero), strict=True)
        )
    return scale, zero


def _grid(low: Tensor, high: Tensor, config: GptqConfig) -> tuple[Tensor, Tensor]:
    """Scale and zero of codes that are spaced evenly from `low` to `high`."""
    top = 2**config.bits - 1
    scale = ((high - low) / top).half()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    middle = torch.full_like(low, (top + 1) / 2)
    return scale, middle if config.sym else (-low / scale.float()).round_().clamp_(0, top)


def _codes(rows: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    return (rows / scale + zero).round_().clamp_(0, 2**bits - 1)


def _factored(hessian: Tensor, unused: Tensor, order: Tensor, damp_percent: float) -> tuple[Tensor, Tensor]:
    """H with enough damping to have an inverse, and U with Uᵀ U = H⁻¹ in this order of the inputs.

    An input that is always zero gets 1 on the diagonal, so it does not affect the others.
    """
    hessian = hessian.clone()
    diagonal = hessian.diagonal()
    diagonal[unused] = 1
    damp = damp_percent * diagonal.mean().clone()
    for _ in range(ATTEMPTS):
        diagonal += damp
        factor, failed = torch.linalg.cholesky_ex(hessian[order][:, order])
        if not failed:
            inverse, failed = torch.linalg.cholesky_ex(torch.cholesky_inverse(factor), upper=True)
            if not failed:
                return hessian, inverse
        damp *= 10
    raise ConfigError(tr("the calibration inputs are not finite, or all equal; use other data with --data"))
