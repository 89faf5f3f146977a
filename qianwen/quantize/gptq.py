"""GPTQ: round weights so that the outputs change least (Frantar et al. 2022; the released Int4 and Int8 models).

The error of a linear on its inputs X is |ΔW X|² = ΔW H ΔWᵀ with H = X Xᵀ. Inputs are rounded one after the other; what
each rounding does to the outputs is made good by those not yet rounded, along the inverse of what is left of H:

    e = (w_i − q_i) / U_ii        W_j −= e · U_ij  for all j > i        U: upper Cholesky factor of H⁻¹

Blocks of 128 inputs are worked on alone and their errors passed to the rest at once. A group's grid is chosen when its
first input is reached, from the weights as they are by then: of ranges from the largest weight down (`search`) the one
that loses least, an input's error counting as much as its square in X. In order of activation (`act_order`) the inputs
that matter most are rounded first, while most others can still make good; groups stay where they lie (static groups),
their grids chosen beforehand, so the result is laid out and as fast as any other.

`nearest` rounds on the same grids without looking: the baseline. Not here: where H comes from (`calibration.py`), what
is done once every input is rounded (`coordinate_descent.py`).
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

BLOCK = 128  # inputs whose errors reach the rest at once
# Of a group's range, what a search tries; at 15/14 the largest weight of a symmetric four-bit group is a code itself.
SHARES = (1.0, 15 / 14, 0.96, 0.92, 0.88, 0.84, 0.8, 0.76, 0.72, 0.68, 0.64, 0.6)
ATTEMPTS = 6  # dampings tried, each ten times the last, until H has an inverse


@dataclass(frozen=True, kw_only=True)
class GptqConfig:
    """The grid and the solver. Grid and layout are by default those of the released models, which were made with a
    tenth of the damping, inputs as they lie, no search and no passes."""

    bits: int = 4
    group_size: int = 128  # inputs; -1: all inputs of an output
    sym: bool = True  # zero is the middle code
    damp_percent: float = 0.1  # of the mean of H's diagonal, added to it
    act_order: bool = True  # round the inputs that matter most first
    search: bool = True  # cut off a group's largest weights where less is lost that way
    passes: int = 2  # over all codes and scales, once every input is rounded

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
        """Inputs of a group in a matrix that has so many."""
        return inputs if self.group_size == -1 else min(self.group_size, inputs)


class Hessian:
    """Σ x xᵀ over the inputs of a linear, fp32 [K, K], and how many there were."""

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
    """Round the factors of fp32 products to bfloat16, and the sums not at all: exact for factors that came from it."""
    backends: Any = torch.backends
    before = backends.mkldnn.matmul.fp32_precision
    backends.mkldnn.matmul.fp32_precision = "bf16"
    try:
        yield
    finally:
        backends.mkldnn.matmul.fp32_precision = before


def nearest(weight: Tensor, config: GptqConfig) -> Groups:
    """Every weight [N, K] to the nearest code of its group's grid."""
    rows, size = weight.float().T, config.size(weight.size(1))
    scales, zeros = _grids(rows, size, config)
    group_of = group_order(len(rows), size, weight.device)
    codes = _codes(rows, scales.float()[group_of.long()], zeros[group_of.long()], config.bits)
    return _groups(codes, scales, zeros, group_of, config)


def gptq(weight: Tensor, hessian: Tensor, config: GptqConfig) -> Groups:
    """The codes for `weight` [N, K] that change its outputs least on inputs with this H [K, K]."""
    inputs = weight.size(1)
    size, unused = config.size(inputs), hessian.diagonal() == 0
    group_of = group_order(inputs, size, weight.device)
    wanted = torch.where(unused, 0, weight.float())
    rows = wanted.T.contiguous()  # one input after the other [K, N]
    matters = hessian.diagonal() if config.search else None
    scales, zeros = _grids(rows, size, config, matters if config.act_order else None)
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
                there = slice(i, i + size)
                grid = _grids(rows[there], size, config, None if matters is None else matters[there])
                scales[group[i]], zeros[group[i]] = (part[0] for part in grid)
            scale, zero = scales[group[i]].float(), zeros[group[i]]
            codes[i] = _codes(rows[i], scale, zero, config.bits)
            errors[i - start] = (rows[i] - (codes[i] - zero) * scale) / upper[i, i]
            rows[i + 1 : end].addr_(upper[i, i + 1 : end], errors[i - start], alpha=-1)
        rows[end:].addmm_(upper[start:end, end:].T, errors, alpha=-1)
    found = _groups(codes[order.argsort()], scales, zeros, group_of, config)
    return refine(wanted, found, hessian, config.passes) if config.passes else found


def _groups(codes: Tensor, scales: Tensor, zeros: Tensor, group_of: Tensor, config: GptqConfig) -> Groups:
    """From inputs first to outputs first, in the types they are kept in."""
    codes, zeros = codes.to(torch.uint8), zeros.to(torch.uint8)
    return Groups(config.bits, codes.T.contiguous(), scales.T.contiguous(), zeros.T.contiguous(), group_of)


def _grids(rows: Tensor, size: int, config: GptqConfig, matters: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Scale (fp16, as stored) and zero of each group of fp32 [K, N], both [G, N]; with `matters` [K] by search."""
    groups = F.pad(rows, (0, 0, 0, -len(rows) % size)).unflatten(0, (-1, size))
    low, high = groups.amin(1).clamp_max(0), groups.amax(1).clamp_min(0)
    if config.sym:
        high = torch.maximum(-low, high)
        low = -high
    scale, zero = _grid(low, high, config)
    if matters is None:
        return scale, zero
    counts = F.pad(matters, (0, -len(rows) % size)).view(-1, size, 1)
    least = torch.full_like(low, torch.inf)
    for share in SHARES:
        tried = _grid(low * share, high * share, config)
        step, middle = tried[0].float()[:, None], tried[1][:, None]
        lost = ((_codes(groups, step, middle, config.bits) - middle) * step - groups).square_().mul_(counts).sum(1)
        better = lost < least
        least, scale, zero = (
            torch.where(better, new, old) for new, old in zip((lost, *tried), (least, scale, zero), strict=True)
        )
    return scale, zero


def _grid(low: Tensor, high: Tensor, config: GptqConfig) -> tuple[Tensor, Tensor]:
    """Scale and zero of the codes that lie evenly from `low` to `high`."""
    top = 2**config.bits - 1
    scale = ((high - low) / top).half()
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    middle = torch.full_like(low, (top + 1) / 2)
    return scale, middle if config.sym else (-low / scale.float()).round_().clamp_(0, top)


def _codes(rows: Tensor, scale: Tensor, zero: Tensor, bits: int) -> Tensor:
    return (rows / scale + zero).round_().clamp_(0, 2**bits - 1)


def _factored(hessian: Tensor, unused: Tensor, order: Tensor, damp_percent: float) -> tuple[Tensor, Tensor]:
    """H damped until it has an inverse, and U with Uᵀ U = H⁻¹ in this order of the inputs.

    An input that is always zero is left to itself.
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
