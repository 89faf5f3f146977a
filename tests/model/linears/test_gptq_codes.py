"""A linear with GPTQ codes: its weights, its gradients, and the outputs of its fast form."""

import pytest
import torch
import torch.nn.functional as F

from qianwen.kernels.cpu.build import family
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.gptq_layout import Groups
from qianwen.quantize.gptq import GptqConfig, nearest


def linear(bits: int = 4, sym: bool = True, group_size: int = 64, inputs: int = 256) -> tuple[GptqLinear, Groups]:
    weight = nearest(torch.randn(32, inputs), GptqConfig(bits=bits, sym=sym, group_size=group_size))
    return GptqLinear(weight, torch.randn(32)), weight


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("inputs", [256, 160, 96])
def test_a_gptq_linear_equals_its_weights(bits: int, sym: bool, inputs: int) -> None:
    found, weight = linear(bits, sym, inputs=inputs)
    torch.testing.assert_close(found.dequantize(), weight.dequantize(), atol=1e-6, rtol=1e-6)
    for dtype in (torch.bfloat16, torch.float16):
        torch.testing.assert_close(found.dequantize(dtype).float(), weight.dequantize(), atol=0.02, rtol=0.02)
    assert torch.equal(found.groups.codes, weight.codes)
    assert found.num_bytes < 1.3 * 32 * inputs * bits / 8 + 4 * inputs


def test_groups_in_order_of_activation() -> None:
    _, weight = linear()
    turned = Groups(4, weight.codes, weight.scales, weight.zeros, weight.group_of[torch.randperm(256)])
    torch.testing.assert_close(GptqLinear(turned).dequantize(), turned.dequantize(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_only_the_input_gets_a_gradient(dtype: torch.dtype) -> None:
    found, weight = linear()
    x = torch.randn(3, 5, 256, dtype=dtype, requires_grad=True)
    out = found(x)
    assert out.dtype == dtype
    expected = F.linear(x.detach().float(), weight.dequantize(), found.bias)
    torch.testing.assert_close(out.float(), expected, atol=0.3, rtol=0.05) if dtype != torch.float32 else (
        torch.testing.assert_close(out, expected, atol=1e-4, rtol=1e-4)
    )
    out.float().sum().backward()
    torch.testing.assert_close(x.grad.float()[0, 0], weight.dequantize().sum(0), atol=0.2, rtol=0.05)
    assert not any(parameter.requires_grad for parameter in found.parameters())


@pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
@pytest.mark.parametrize(("bits", "sym", "format"), [(4, True, "q4_0"), (8, True, "q8_0"), (4, False, "int8")])
def test_the_fast_linear_gives_the_same_outputs(bits: int, sym: bool, format: str) -> None:
    found, weight = linear(bits, sym)
    fast = found.fast()
    assert fast.format == format
    x = torch.randn(7, 256)
    with torch.no_grad():
        apart = (fast(x) - found(x)).norm() / found(x).norm()
    assert apart < 0.02
    if sym:
        torch.testing.assert_close(fast.dequantize(), weight.dequantize(), atol=0, rtol=0)
