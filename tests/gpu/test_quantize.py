"""Fewer bits on a GPU: the packed layout is read as on a CPU, little of it is ever in floats, and gradients flow."""

import copy

import pytest
import torch

from qianwen.kernels.dispatch import on_gpu
from qianwen.kernels.packing import FORMATS
from qianwen.kernels.self_test import on_gpu as self_test_on_gpu
from qianwen.kernels.self_test import random_weight
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import UNPACKED_WEIGHTS, PackedLinear, pack_model, to_device
from qianwen.quantize.gptq import GptqConfig, Hessian, gptq

pytestmark = pytest.mark.gpu
INTEGERS = [name for name in FORMATS if name != "bf16"]


@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("size", [(64, 128), (70, 200), (130, 896), (1024, 384), (4096, 2048)])
def test_a_packed_linear_is_its_weights_times_the_rows(device, format, size):
    weight = random_weight(format, *size)
    bias = torch.randn(size[0])
    linear = PackedLinear.from_quantized(weight, bias).to(device)
    exact = weight.dequantize().to(device)
    assert torch.allclose(linear.dequantize(), exact, rtol=1e-6, atol=1e-7)
    for rows in (1, 2, 3, 8, 9, 70):
        x = torch.randn(rows, size[1], device=device)
        expected = x.double() @ exact.double().T + bias.double().to(device)
        for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 2e-2)):
            found = linear(x.to(dtype))
            assert found.dtype == dtype
            assert (found.double() - expected).norm() < tolerance * expected.norm()


def test_the_self_test_passes(device):
    outcomes = list(self_test_on_gpu(on_gpu(torch.empty(0, device=device))))
    assert len(outcomes) == 1 + 2 * len(INTEGERS) and all(outcome.is_right for outcome in outcomes), outcomes


@pytest.mark.parametrize("format", INTEGERS)
def test_the_same_input_gives_the_same_bits(device, format):
    linear = PackedLinear.from_quantized(random_weight(format, 192, 4096)).to(device)
    x = torch.randn(3, 4096, device=device)
    first = linear(x)
    assert all(torch.equal(linear(x), first) for _ in range(20))
    assert torch.allclose(linear(x[1:2]), first[1:2], rtol=1e-4, atol=1e-4)


def test_no_more_than_a_part_is_ever_in_floats(device):
    outputs, inputs = 40_000, 4096
    assert outputs * inputs > 2 * UNPACKED_WEIGHTS
    packed = torch.zeros(outputs // 16, 16 * inputs + 32 * inputs // 128, dtype=torch.uint8, device=device)
    linear = PackedLinear("int8", packed, outputs, inputs)
    x = torch.randn(16, inputs, device=device, dtype=torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    with torch.no_grad():
        linear(x)
    assert torch.cuda.max_memory_allocated() - before < 2.2 * UNPACKED_WEIGHTS


@pytest.mark.parametrize("kind", ["int4", "q6_k", "nf4", "gptq"])
def test_the_gradient_of_the_input_is_that_of_the_weights(device, kind):
    weight = torch.randn(96, 256)
    if kind == "nf4":
        linear = Nf4Linear.from_float(weight)
        assert torch.equal(Nf4Linear.from_float(weight.to(device)).dequantize().cpu(), linear.dequantize())
    elif kind == "gptq":
        hessian = Hessian(256)
        hessian.add(torch.randn(512, 256))
        linear = GptqLinear(gptq(weight, hessian.mean(), GptqConfig()))
    else:
        linear = PackedLinear.from_quantized(random_weight(kind, 96, 256))
    exact = linear.dequantize()
    linear = linear.to(device)
    x = torch.randn(5, 256, device=device, requires_grad=True)
    linear(x).square().sum().backward()
    expected = 2 * (x.detach().cpu() @ exact.T) @ exact
    assert torch.allclose(x.grad.cpu(), expected, rtol=1e-3, atol=1e-3 * expected.abs().max())


@pytest.mark.parametrize("config", [GptqConfig(), GptqConfig(act_order=True), GptqConfig(sym=False, search=False)])
def test_gptq_loses_as_little_as_on_a_cpu(device, config):
    torch.manual_seed(0)
    weight, x = torch.randn(128, 384), torch.randn(2048, 384) * torch.rand(384) ** 2
    x = x @ torch.randn(384, 384)
    lost = []
    for where in (torch.device("cpu"), device):
        hessian = Hessian(384, where)
        hessian.add(x.to(where))
        found = gptq(weight.to(where), hessian.mean(), config)
        lost.append(((found.dequantize().cpu() - weight) @ x.T).norm().item())
    assert abs(lost[1] / lost[0] - 1) < 0.01


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_network_says_what_its_weights_say(device, make_model, bits):
    torch.manual_seed(0)
    packed, ids = pack_model(make_model(), bits), torch.randint(0, 272, (1, 40), device=device)
    floats = make_model()
    for name, linear in [(n, m) for n, m in packed.named_modules() if isinstance(m, PackedLinear)]:
        weights = floats.get_submodule(name)
        weights.weight = torch.nn.Parameter(linear.dequantize())
    floats.model.embed_tokens.weight.data = packed.model.embed_tokens.weight.detach().float()
    with torch.inference_mode():
        moved = to_device(packed, device)
        assert on_gpu(moved.lm_head.packed) is not None
        exact, rounded, found = (
            model.logits(model(ids)).float()
            for model in (floats.to(device), copy.deepcopy(floats).to(device, torch.bfloat16), moved)
        )
    assert (found - exact).norm() < 1.3 * (rounded - exact).norm()


@pytest.mark.parametrize("base", ["int4", "nf4", "bf16"])
def test_an_adapter_learns_over_any_base(device, make_model, base):
    torch.manual_seed(0)
    model = make_model()
    if base == "int4":
        model = to_device(pack_model(model, 4), device)
    else:
        for layer in model.model.layers:
            if base == "nf4":
                layer.mlp.up_proj = Nf4Linear.from_float(layer.mlp.up_proj.weight)
        model = model.to(device, torch.bfloat16)
    attach(model, LoraConfig(rank=4, alpha=16.0, dropout=0.0))
    model.to(device)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=1e-2)
    ids = torch.randint(0, 272, (2, 33), device=device)
    losses = []
    for _ in range(30):
        scores = model.logits(model(ids[:, :-1])).float()
        loss = torch.nn.functional.cross_entropy(scores.flatten(0, 1), ids[:, 1:].flatten())
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.7 * losses[0]
