"""What GPTQ leaves: every scale and code once more, each to where the outputs change least with all others as they are.

GPTQ rounds an input once, before it knows how those after it are rounded, and never comes back to a scale. With
Δ = Ŵ − W, the outputs' error ΔHΔᵀ of a row and its slope S = ΔH, one step is the best for the one thing that it moves
(coordinate descent):

    a group's scale    s ← s − (c S_gᵀ) / (c H_gg cᵀ)        c: the group's codes, less their zero
    an input's code    q ← round(q − S_i / (s H_ii))

A group's scale moves first, then its codes, and what changed in the group reaches the slopes of all others in one
product. But for the rounding of scales to fp16, no step makes the error larger. Shapes: N outputs, K inputs, which lie
first, S inputs of a group.
"""

import torch
from torch import Tensor

from qianwen.model.linears.gptq_layout import Groups

BLOCK = 128  # inputs of a group whose changes reach its other slopes at once


def refine(weight: Tensor, found: Groups, hessian: Tensor, passes: int) -> Groups:
    """`found`, whose groups lie in order, nearer to `weight` fp32 [N, K] under H [K, K], whose diagonal has no zero."""
    rows, codes, zeros, scales = (
        part.float().T.contiguous() for part in (weight, found.codes, found.zeros, found.scales)
    )
    size, group_of = found.group_size, found.group_of.long()
    slopes = hessian @ ((codes - zeros[group_of]) * scales[group_of] - rows)
    for _ in range(passes):
        for group, start in enumerate(range(0, len(rows), size)):
            part = slice(start, start + size)
            own = slopes[part].clone(), hessian[part, part]
            moved = _descend(codes[part], zeros[group], scales[group], *own, top=2**found.bits - 1)
            slopes.addmm_(hessian[:, part], moved)
    codes, scales = codes.T.to(torch.uint8).contiguous(), scales.T.half().contiguous()
    return Groups(found.bits, codes, scales, found.zeros, found.group_of)


def _descend(codes: Tensor, zero: Tensor, scale: Tensor, slopes: Tensor, hessian: Tensor, *, top: int) -> Tensor:
    """Move a group's `scale` [N] and `codes` [S, N] in place, and return by how much its weights changed [S, N].

    `slopes` [S, N] and `hessian` [S, S] are the group's own; the slopes follow.
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
    """The best scale [N] for a group of these `levels` [S, N], as fp16 can hold it; `slopes` follow it."""
    reach = hessian @ levels
    curve = (levels * reach).sum(0)
    fitted = (scale - (levels * slopes).sum(0) / curve).half().float()
    fitted = torch.where((curve > 0) & (fitted > 0) & fitted.isfinite(), fitted, scale)
    slopes.addcmul_(reach, fitted - scale)
    return fitted
