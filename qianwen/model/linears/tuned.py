"""A linear with the codes of a GPTQ checkpoint and trainable scales (second step of EfficientQAT, Chen et al. 2024).

Codes do not change. Each scale is multiplied by a trainable factor that starts at one. A factor is trained instead of
the scale itself so that one learning rate fits all groups.

    W = c · s · f        dL/df = Σ over the group's inputs of dL/dW · c · s        c: code − zero

As in `frozen.py`, no unpacked matrix is stored: the backward pass unpacks W again.
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
    """`coded` with its scales multiplied by `factors` fp32 [N, G], the only parameter that is trained."""

    def __init__(self, coded: GptqLinear) -> None:
        super().__init__()
        self.coded = coded
        self.factors = nn.Parameter(torch.ones_like(coded.scales, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        out = _Product.apply(x, self.factors, self.coded)
        return out if self.coded.bias is None else out + self.coded.bias.to(x.dtype)

    @torch.no_grad()
    def frozen(self) -> GptqLinear:
        """A linear with the same codes, its trained scales rounded to fp16."""
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
    """Sums over the inputs of each group: [N, K] → fp32 [N, G]."""
    if _is_even(coded):
        return values.unflatten(1, (-1, coded.group_size)).sum(-1, dtype=torch.float32)
    sums = values.new_zeros(coded.scales.shape, dtype=torch.float32)
    return sums.index_add_(1, coded.group_of.long(), values.float())


def _is_even(coded: GptqLinear) -> bool:
    """Whether groups are in order and all have the same size."""
    return bool(coded.group_size) and coded.in_features % coded.group_size == 0


def unfreeze_scales(model: Qwen) -> Qwen:
    """Make the scales of all `GptqLinear`s trainable and freeze everything else, in place."""
    model.requires_grad_(False)
    return _replaced(model, GptqLinear, TunedLinear)


def freeze_scales(model: Qwen) -> Qwen:
    """Replace all `TunedLinear`s by `GptqLinear`s with the trained scales, in place."""
    return _replaced(model, TunedLinear, TunedLinear.frozen)


def _replaced(model: Qwen, kind: Any, make: Any) -> Qwen:
    for name, linear in [(name, part) for name, part in model.named_modules() if isinstance(part, kind)]:
        replace_module(model, name, make(linear))
    return model
