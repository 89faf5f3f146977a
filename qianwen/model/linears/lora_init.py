"""Initialisations of LoRA that take a part out of the base weights: PiSSA (Meng 2024) and OLoRA (Büyükakyüz 2024).

    W₀ = W − P,   scale · B A = P at the start       training changes A and B; W₀ stays frozen

    pissa    P = U_r S_r V_rᵀ     the r largest singular values of W
    olora    P = scale · Q_r R_r  the first r columns and rows of its QR decomposition

A folder has the trained A and B, but not P; whoever loads it computes P from W again. So the change of W is
scale · B A − P, a matrix of rank 2r, and works on a base in any format. P must come from the weights of the training: a
base with fewer bits has other singular vectors.
Shapes: N outputs, K inputs, r rank.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from qianwen.model.linears.lora import LowRank


def pissa_part(weight: Tensor, rank: int, scale: float) -> LowRank:
    """The principal part of `weight` [N, K], as scale · B A."""
    u, s, v = torch.linalg.svd(weight.float(), full_matrices=False)
    return LowRank(v[:rank], u[:, :rank] * (s[:rank] / scale), scale)


def olora_part(weight: Tensor, rank: int, scale: float) -> LowRank:
    """The first `rank` columns of Q and rows of R, as scale · B A."""
    q, r = torch.linalg.qr(weight.float())
    return LowRank(r[:rank], q[:, :rank], scale)


INITIAL_PARTS: dict[str, Callable[[Tensor, int, float], LowRank]] = {"pissa": pissa_part, "olora": olora_part}


def without_part(change: LowRank, part: LowRank) -> LowRank:
    """The change of the original weight: `change`, less the part that was taken out of the weight."""
    a, b = torch.cat((change.a.float(), part.a)), torch.cat((change.b.float(), -part.b), dim=1)
    return LowRank(a, b, change.scale)
