"""NF4: the code, both levels of rounding, gradients without stored weights, and loading one matrix at a time."""

import gc
import weakref
from pathlib import Path

import pytest
import torch
from torch import nn

from qianwen.checkpoints.hf_weights import load_weights, save_weights
from qianwen.checkpoints.nf4_network import nf4_model
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach, merge
from qianwen.model.linears.nf4 import CODE, Nf4Linear, scale_map
from qianwen.model.transformer import Qwen

CONFIG = QwenConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


def test_the_code_has_quantiles_of_a_normal_distribution() -> None:
    """Appendix E: quantiles evenly spaced from the offset to a half, on both sides, and zero."""
    normal = torch.distributions.Normal(0.0, 1.0)
    offset = 0.9677083
    above = normal.icdf(torch.linspace(offset, 0.5, 9)[:-1])
    below = -normal.icdf(torch.linspace(offset, 0.5, 8)[:-1])
    code = torch.cat((below, torch.zeros(1), above)).sort().values
    torch.testing.assert_close(torch.tensor(CODE), code / code.max(), atol=1e-6, rtol=1e-5)


def test_the_scale_map_is_that_of_bitsandbytes() -> None:
    values = scale_map(torch.device("cpu"))
    assert len(values) == 256 and values[127] == 0 and values[255] == 1 and (values.diff() > 0).all()


def test_each_weight_gets_the_nearest_code() -> None:
    weight = torch.randn(32, 128)
    linear = Nf4Linear.from_float(weight)
    sizes = weight.view(-1, 64).abs().amax(1, keepdim=True)
    nearest = (weight.view(-1, 64, 1) / sizes[..., None] - torch.tensor(CODE)).abs().argmin(-1).to(torch.uint8)
    assert torch.equal(linear.codes, (nearest[:, ::2] << 4 | nearest[:, 1::2]).flatten())
    error = (linear.dequantize() - weight).square().mean().sqrt()
    assert error < 0.1  # of weights with deviation 1


@pytest.mark.parametrize("shape", [(32, 128), (3, 40), (1, 1), (7, 65)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_any_shape_and_type(shape: tuple[int, int], dtype: torch.dtype) -> None:
    weight = torch.randn(shape)
    linear = Nf4Linear.from_float(weight.to(dtype))
    found = linear.dequantize(dtype)
    assert found.shape == shape and found.dtype == dtype
    assert (found.float() - weight).norm() < 0.12 * weight.norm() + 0.02
    torch.testing.assert_close(found.float(), linear.dequantize(), atol=0, rtol=0.02)


def test_zeros_stay_zero() -> None:
    assert not Nf4Linear.from_float(torch.zeros(4, 64)).dequantize().any()


def test_bits_per_weight() -> None:
    linear = Nf4Linear.from_float(torch.randn(512, 512))
    assert 8 * linear.num_bytes / 512**2 == pytest.approx(4.127, abs=0.001)


def test_gradients_equal_those_of_the_unpacked_weights() -> None:
    linear = Nf4Linear.from_float(torch.randn(5, 128), torch.randn(5))
    x, y = (torch.randn(2, 3, 128).requires_grad_() for _ in range(2))
    y.data.copy_(x.data)
    linear(x).square().sum().backward()
    nn.functional.linear(y, linear.dequantize(), linear.bias).square().sum().backward()
    assert torch.equal(x.grad, y.grad)


def test_no_unpacked_weight_is_stored_for_backward() -> None:
    linear, seen = Nf4Linear.from_float(torch.randn(8, 64)), []
    unpack = linear.dequantize

    def watched(dtype: torch.dtype) -> torch.Tensor:
        weight = unpack(dtype)
        seen.append(weakref.ref(weight))
        return weight

    linear.dequantize = watched
    loss = linear(torch.randn(2, 64, requires_grad=True)).sum()
    gc.collect()
    assert len(seen) == 1 and seen[0]() is None
    loss.backward()
    assert len(seen) == 2


def test_a_folder_loads_as_nf4_with_float_embedding_and_head(tmp_path: Path) -> None:
    save_weights(Qwen(CONFIG).init_weights(0), tmp_path / "m")
    floats, model = load_weights(tmp_path / "m"), nf4_model(tmp_path / "m", dtype=torch.float32)
    linears = {name: module for name, module in model.named_modules() if isinstance(module, Nf4Linear)}
    assert len(linears) == 14 and type(model.lm_head) is nn.Linear
    assert torch.equal(model.lm_head.weight, floats.lm_head.weight)
    again = Nf4Linear.from_float(floats.model.layers[1].mlp.up_proj.weight)
    assert torch.equal(linears["model.layers.1.mlp.up_proj"].codes, again.codes)
    assert torch.equal(linears["model.layers.0.self_attn.q_proj"].bias, floats.model.layers[0].self_attn.q_proj.bias)
    assert not any(weight.requires_grad for weight in model.parameters())


def test_an_adapter_over_nf4_trains_and_merges(tmp_path: Path) -> None:
    save_weights(Qwen(CONFIG).init_weights(0), tmp_path / "m")
    model = attach(nf4_model(tmp_path / "m", dtype=torch.float32), LoraConfig(rank=4, alpha=8, dropout=0.0)).train()
    ids = torch.arange(12).reshape(1, 12)
    for _ in range(2):  # B is zero at first, and so is A's gradient
        model.logits(model(ids)).square().sum().backward()
        for _, lora in adapted(model):
            lora.lora_B.data -= 0.02 * lora.lora_B.grad / lora.lora_B.grad.norm()
    assert all(lora.lora_A.grad.abs().sum() > 0 for _, lora in adapted(model))
    fresh = attach(nf4_model(tmp_path / "m", dtype=torch.float32), LoraConfig(rank=4))
    assert merge(fresh) < 1e-5
