"""Products with weights that are not trained and not kept: what lets an adapter learn over a quantised base.

Going backward, the gradient of the input is grad · W. Autograd would keep every unpacked W of the network for that,
which is all that quantising saved; here W is unpacked again instead, so that only one exists at a time.

`answer_fast` gives a trained adapter a base that answers without unpacking, once no gradient is asked for.

Shapes: N outputs, K inputs.
"""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.model.lora import adapted
from qianwen.model.transformer import Qwen
from qianwen.runtime.device import return_free_memory

LINEARS_BETWEEN = 7  # about a layer's
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


def answer_fast(model: Qwen) -> Qwen:
    """Swap linears under adapters for the forms that answer fast, of those that have one; not to be trained further."""
    for number, (_, lora) in enumerate(adapted(model)):
        if callable(fast := getattr(lora.base, "fast", None)):
            lora.base = fast()
            if number % LINEARS_BETWEEN == 0:  # else what was freed so far stays beside what is made
                return_free_memory()
    return model
