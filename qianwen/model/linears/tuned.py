"""A linear over the codes of a GPTQ checkpoint whose scales are trained, each by a factor that begins at one.

Codes stay as they are; what is learned is how far apart the points of a group's grid lie (the second step of
EfficientQAT, Chen et al. 2024). A factor and not the scale itself, so that one learning rate fits all groups.

    W = c · s · f        dL/df = Σ over the group's inputs of dL/dW · c · s        c: codes less their zero

As over frozen weights (`frozen.py`) no unpacked matrix outlives its product: going backward W is unpacked again.
Shapes: N outputs, K inputs, G groups.
"""

import dataclasses
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.transformer import Qwen, replace_module


class TunedLinear(nn.Module):
    """`coded` with its scales times `factors` fp32 [N, G], the one thing that is trained."""

    def __init__(self, coded: GptqLinear) -> None:
        super().__init__()
        self.coded = coded
        self.factors = nn.Parameter(torch.ones_like(coded.scales, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        out = _Product.apply(x, self.factors, self.coded)
        return out if self.coded.bias is None else out + self.coded.bias.to(x.dtype)

    @torch.no_grad()
    def fixed(self) -> GptqLinear:
        """The codes with the scales they have now, as fp16 holds them."""
        groups = self.coded.groups
        return GptqLinear(dataclasses.replace(groups, scales=(groups.scales * self.factors).half()), self.coded.bias)


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor, coded: GptqLinear) -> Tensor:
        ctx.coded = coded
        ctx.save_for_backward(x, factors)
        return F.linear(x, _weights(coded, factors, x.dtype))

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor, None]:
        (x, factors), coded, grad = ctx.saved_tensors, ctx.coded, grads[0]
        to_x = grad @ _weights(coded, factors, grad.dtype) if ctx.needs_input_grad[0] else None
        to_weights = grad.flatten(0, -2).T @ x.flatten(0, -2)
        return to_x, _sums(to_weights.mul_(coded.dequantize(grad.dtype)), coded), None


def _weights(coded: GptqLinear, factors: Tensor, dtype: torch.dtype) -> Tensor:
    weights, factors = coded.dequantize(dtype), factors.to(dtype)
    if _is_even(coded):
        return weights.unflatten(1, (factors.size(1), -1)).mul_(factors[..., None]).flatten(1)
    return weights.mul_(factors[:, coded.group_of.long()])


def _sums(values: Tensor, coded: GptqLinear) -> Tensor:
    """Over the inputs of each group: [N, K] → fp32 [N, G]."""
    if _is_even(coded):
        return values.unflatten(1, (-1, coded.group_size)).sum(-1, dtype=torch.float32)
    sums = values.new_zeros(coded.scales.shape, dtype=torch.float32)
    return sums.index_add_(1, coded.group_of.long(), values.float())


def _is_even(coded: GptqLinear) -> bool:
    """Whether groups lie in order and are all of one size."""
    return bool(coded.group_size) and coded.in_features % coded.group_size == 0


def to_tune(model: Qwen) -> Qwen:
    """Make the scales of every linear over codes, and nothing else, what is trained; in place."""
    model.requires_grad_(False)
    return _replaced(model, GptqLinear, TunedLinear)


def fix(model: Qwen) -> Qwen:
    """Back to linears over codes, whose scales are those that were learned; in place."""
    return _replaced(model, TunedLinear, TunedLinear.fixed)


def _replaced(model: Qwen, kind: Any, make: Any) -> Qwen:
    for name, linear in [(name, part) for name, part in model.named_modules() if isinstance(part, kind)]:
        replace_module(model, name, make(linear))
    return model
