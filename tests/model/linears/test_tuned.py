"""Trainable scales: gradients equal the formula, codes do not change, and the trained scales are written back."""

import pytest
import torch

from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.gptq_layout import Groups
from qianwen.model.linears.tuned import TunedLinear, freeze_scales, unfreeze_scales
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig, nearest


def coded(inputs: int = 96, *, sym: bool = True, in_order: bool = True, bias: bool = True) -> GptqLinear:
    groups = nearest(torch.randn(8, inputs), GptqConfig(group_size=32, sym=sym))
    if not in_order:
        groups = Groups(4, groups.codes, groups.scales, groups.zeros, groups.group_of[torch.randperm(inputs)])
    return GptqLinear(groups, torch.randn(8) if bias else None)


@pytest.mark.parametrize("inputs", [96, 80])  # the last group of 80 is half as large
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("in_order", [True, False])
def test_outputs_and_gradients_equal_the_formula(inputs: int, sym: bool, in_order: bool) -> None:
    linear = coded(inputs, sym=sym, in_order=in_order)
    tuned = TunedLinear(linear)
    tuned.factors.data += 0.1 * torch.randn_like(tuned.factors)
    x, other = torch.randn(2, 5, inputs, requires_grad=True), torch.randn(2, 5, 8)
    factors = tuned.factors.detach().clone().requires_grad_()
    wanted = x @ (linear.dequantize() * factors[:, linear.group_of.long()]).T + linear.bias
    torch.testing.assert_close(tuned(x), wanted)
    ours = torch.autograd.grad((tuned(x) * other).sum(), (x, tuned.factors))
    theirs = torch.autograd.grad((wanted * other).sum(), (x, factors))
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


def test_trained_factors_are_in_the_frozen_scales() -> None:
    linear = coded()
    tuned = TunedLinear(linear)
    torch.testing.assert_close(tuned.frozen().scales, linear.scales, rtol=0, atol=0)
    tuned.factors.data *= 1.25
    assert torch.equal(tuned.frozen().groups.codes, linear.groups.codes)
    torch.testing.assert_close(tuned.frozen().dequantize(), 1.25 * linear.dequantize(), rtol=1e-3, atol=1e-6)


def test_only_scales_of_a_model_are_trainable() -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen(QwenConfig(vocab_size=50, max_position_embeddings=64, **shape)).init_weights(0)
    layer = model.model.layers[0]
    layer.mlp.up_proj = GptqLinear(nearest(layer.mlp.up_proj.weight.detach(), GptqConfig(group_size=32)))
    before = layer.mlp.up_proj.scales.clone()
    trained = [name for name, weight in unfreeze_scales(model).named_parameters() if weight.requires_grad]
    assert trained == ["model.layers.0.mlp.up_proj.factors"]
    model.model.layers[0].mlp.up_proj.factors.data *= 2
    assert torch.equal(freeze_scales(model).model.layers[0].mlp.up_proj.scales, 2 * before)
