"""Products with frozen quantised weights that pass a gradient, so that an adapter can be trained over them.

In the backward pass the gradient of the input is grad · W. Autograd would store every unpacked W of the network for it,
and quantisation would save no memory. Here W is unpacked again instead, so only one unpacked W exists at a time.

Shapes: N outputs, K inputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Unpack = Callable[[torch.dtype], Tensor]  # → the weights [N, K] in that type


def frozen_linear(x: Tensor, unpack: Unpack, bias: Tensor | None = None) -> Tensor:
    """x [..., K] → x · Wᵀ + bias [..., N] in the type of x; only x gets a gradient."""
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
