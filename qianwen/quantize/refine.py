"""What GPTQ leaves: every scale and code once more, each to where the outputs change least with all others as they are.

GPTQ rounds an input once, before it knows how those after it are rounded, and never comes back to a scale. With
Δ = Ŵ − W, the outputs' error ΔHΔᵀ of a row and its slope S = ΔH, one step is the best for the one thing that it moves
(coordinate descent):

    a group's scale    s ← s − (c S_gᵀ) / (c H_gg cᵀ)        c: the group's codes, less their zero
    an input's code    q ← round(q − S_i / (s H_ii))

Blocks of 128 inputs are worked on alone, and what changed in them reaches the rest of S at once. But for the rounding
of scales to fp16, no step makes the error larger. Shapes: N outputs, K inputs, which lie first.
"""

import torch
from torch import Tensor

from qianwen.quantize.groups import Groups

BLOCK = 128  # inputs whose changes reach the rest of the slopes at once


def refine(weight: Tensor, found: Groups, hessian: Tensor, passes: int) -> Groups:
    """`found`, whose groups lie in order, nearer to `weight` fp32 [N, K] under H [K, K], whose diagonal has no zero."""
    rows, codes, zeros, scales = (
        part.float().T.contiguous() for part in (weight, found.codes, found.zeros, found.scales)
    )
    inputs, size, group_of = len(rows), found.group_size, found.group_of.tolist()
    diagonal = hessian.diagonal().tolist()
    slopes = hessian @ ((codes - zeros[group_of]) * scales[group_of] - rows)
    for _ in range(passes):
        levels = codes - zeros[group_of]
        for group, start in enumerate(range(0, inputs, size)):
            part = slice(start, start + size)
            scales[group] = _fitted_scale(scales[group], levels[part], slopes, hessian[:, part], part)
        for start in range(0, inputs, BLOCK):
            part = slice(start, start + BLOCK)
            own, moved = slopes[part].clone(), torch.zeros_like(slopes[part])
            for i, group in enumerate(group_of[part], start):
                step = own[i - start] / (scales[group] * diagonal[i])
                code = (codes[i] - step).round_().clamp_(0, 2**found.bits - 1)
                moved[i - start] = (code - codes[i]) * scales[group]
                own.addr_(hessian[part, i], moved[i - start])
                codes[i] = code
            slopes.addmm_(hessian[:, part], moved)
    codes, scales = codes.T.to(torch.uint8).contiguous(), scales.T.half().contiguous()
    return Groups(found.bits, codes, scales, found.zeros, found.group_of)


def _fitted_scale(scale: Tensor, levels: Tensor, slopes: Tensor, hessian: Tensor, part: slice) -> Tensor:
    """The best scale [N] for the inputs `part`, which have these `levels`; `slopes` [K, N] follow it."""
    reach = hessian @ levels
    curve = (levels * reach[part]).sum(0)
    fitted = (scale - (levels * slopes[part]).sum(0) / curve).half().float()
    fitted = torch.where((curve > 0) & (fitted > 0) & fitted.isfinite(), fitted, scale)
    slopes.addcmul_(reach, fitted - scale)
    return fitted
