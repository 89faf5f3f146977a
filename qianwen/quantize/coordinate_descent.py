"""Coordinate descent after GPTQ: optimise every scale and code again, one at a time, with all others fixed.

GPTQ rounds each input once, before it knows how later inputs are rounded, and never changes a scale again. Let
Δ = Ŵ − W; a row has the output error ΔHΔᵀ with the gradient S = ΔH. Each step sets one variable to its optimum:

    a group's scale    s ← s − (c S_gᵀ) / (c H_gg cᵀ)        c: the group's codes minus their zero
    an input's code    q ← round(q − S_i / (s H_ii))

A group's scale is updated first, then its codes; one matrix product then updates the gradients of all other groups.
No step makes the error larger, except for the rounding of scales to fp16. Shapes: N outputs, K inputs (the first
dimension), S inputs of a group.
"""

import torch
from torch import Tensor

from qianwen.model.linears.gptq_layout import Groups

BLOCK = 128  # inputs of a group whose changes are applied to its other gradients in one product


def refine(weight: Tensor, groups: Groups, hessian: Tensor, passes: int) -> Groups:
    """Improve `groups` (inputs in order) towards `weight` fp32 [N, K] under H [K, K], whose diagonal is positive."""
    rows, codes, zeros, scales = (
        part.float().T.contiguous() for part in (weight, groups.codes, groups.zeros, groups.scales)
    )
    size, group_of = groups.group_size, groups.group_of.long()
    slopes = hessian @ ((codes - zeros[group_of]) * scales[group_of] - rows)
    for _ in range(passes):
        for group, start in enumerate(range(0, len(rows), size)):
            part = slice(start, start + size)
            own = slopes[part].clone(), hessian[part, part]
            moved = _descend(codes[part], zeros[group], scales[group], *own, top=2**groups.bits - 1)
            slopes.addmm_(hessian[:, part], moved)
    codes, scales = codes.T.to(torch.uint8).contiguous(), scales.T.half().contiguous()
    return Groups(groups.bits, codes, scales, groups.zeros, groups.group_of)


def _descend(codes: Tensor, zero: Tensor, scale: Tensor, slopes: Tensor, hessian: Tensor, *, top: int) -> Tensor:
    """Update a group's `scale` [N] and `codes` [S, N] in place; return the change of its weights [S, N].

    `slopes` [S, N] and `hessian` [S, S] are those of the group; the slopes are updated too.
    """
    before = (codes - zero) * scale
    scale.copy_(_fitted(scale, codes - zero, slopes, hessian))
    for start in range(0, len(codes), BLOCK):
        part = slice(start, start + BLOCK)
        block, inside = hessian[part, part], slopes[part].clone()
        moved = torch.empty_like(inside)
        for i, curve in enumerate(block.diagonal().tolist()):
            old = codes[start + i].clone()
            new = (old - inside[i] / (scale * curve)).round_().clamp_(0, top)
            codes[start + i] = new
            moved[i] = (new - old) * scale
            inside.addr_(block[i], moved[i])
        if len(codes) > BLOCK:
            slopes.addmm_(hessian[:, part], moved)
    return (codes - zero) * scale - before


def _fitted(scale: Tensor, levels: Tensor, slopes: Tensor, hessian: Tensor) -> Tensor:
    """The optimal scale [N] for a group with these `levels` [S, N], rounded to fp16. Updates `slopes`."""
    reach = hessian @ levels
    curve = (levels * reach).sum(0)
    fitted = (scale - (levels * slopes).sum(0) / curve).half().float()
    fitted = torch.where((curve > 0) & (fitted > 0) & fitted.isfinite(), fitted, scale)
    slopes.addcmul_(reach, fitted - scale)
    return fitted
