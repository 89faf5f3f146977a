"""Products with weights that are not trained and not kept: what lets an adapter learn over a quantised base.

Going backward, the gradient of the input is grad · W. Autograd would keep every unpacked W of the network for that,
which is all that quantising saved; here W is unpacked again instead, so that only one exists at a time.

Shapes: N outputs, K inputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Unpack = Callable[[torch.dtype], Tensor]  # → the weights [N, K] in that type


def frozen_linear(x: Tensor, unpack: Unpack, bias: Tensor | None = None) -> Tensor:
    """x [..., K] → x · Wᵀ + bias [..., N] in the type of x; a gradient flows to x alone."""
    if torch.is_grad_enabled() and x.requires_grad:
        out = _Product.apply(x, unpack)
        return out if bias is None else out + bias.to(x.dtype)
    return F.linear(x, unpack(x.dtype), None if bias is None else bias.to(x.dtype))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, unpack: Unpack) -> Tensor:
        ctx.unpack = unpack
        return F.linear(x, unpack(x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] @ ctx.unpack(grads[0].dtype), None
