"""LoRA adapters: they start without effect, train over frozen weights, and merge only if the logits stay the same."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, LoraLinear, adapted, attach, merge, without_adapter
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError

CONFIG = QwenConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
LORA = LoraConfig(rank=4, alpha=8, dropout=0.0)
IDS = torch.arange(24).reshape(2, 12)


def learned(model: Qwen) -> Qwen:
    """Give the adapters random weights, as after training."""
    for _, lora in adapted(model):
        nn.init.normal_(lora.lora_B, std=0.1)
    return model


def test_a_new_adapter_changes_nothing_and_only_it_is_trainable() -> None:
    model = Qwen(CONFIG).init_weights(0).eval()
    before = model(IDS)
    attach(model, LORA)
    assert torch.equal(model(IDS), before)
    assert len(list(adapted(model))) == 14
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(name.endswith(("lora_A", "lora_B")) for name in trained) and len(trained) == 28


def test_the_same_seed_gives_the_same_adapter() -> None:
    first, second, other = (attach(Qwen(CONFIG), LORA, seed=seed) for seed in (3, 3, 4))
    a, b, c = (model.model.layers[1].mlp.up_proj.lora_A for model in (first, second, other))
    assert torch.equal(a, b) and not torch.equal(a, c)
    assert a.abs().max() <= 1 / 32**0.5


def test_forward_equals_the_formula() -> None:
    linear = nn.Linear(6, 5)
    lora = LoraLinear(linear, 2, scale=1.5)
    nn.init.normal_(lora.lora_A)
    nn.init.normal_(lora.lora_B)
    x = torch.randn(3, 6)
    torch.testing.assert_close(lora(x), linear(x) + 1.5 * x @ lora.lora_A.T @ lora.lora_B.T)
    torch.testing.assert_close(lora.merged()(x), lora(x))


def test_dropout_acts_in_training_only() -> None:
    lora = LoraLinear(nn.Linear(64, 5), 2, scale=1.0, dropout=0.5)
    nn.init.normal_(lora.lora_A)
    nn.init.normal_(lora.lora_B)
    x = torch.randn(3, 64)
    assert not torch.equal(lora(x), lora(x))
    lora.eval()
    assert torch.equal(lora(x), lora(x))


def test_fully_trained_modules() -> None:
    model = attach(Qwen(CONFIG), replace(LORA, modules_to_save=("embed_tokens",)))
    assert model.model.embed_tokens.weight.requires_grad and not model.lm_head.weight.requires_grad


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_merge_keeps_the_logits(dtype: torch.dtype) -> None:
    model = learned(attach(Qwen(CONFIG).init_weights(0), LORA)).to(dtype).eval()
    expected = model.logits(model(IDS)).float()
    assert merge(model) <= (1e-5 if dtype == torch.float32 else 2e-2)
    assert not any(adapted(model)) and type(model.model.layers[0].self_attn.q_proj) is nn.Linear
    got = model.logits(model(IDS)).float()
    assert (got - expected).norm() <= (1e-5 if dtype == torch.float32 else 2e-2) * expected.norm()


class Approximate(nn.Module):
    """A linear whose output differs from that of its unpacked weights."""

    in_features, out_features, bias = 32, 48, None

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(48, 32))

    def dequantize(self) -> torch.Tensor:
        return self.weight.round()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight.T


def test_a_merge_that_changes_the_logits_is_refused() -> None:
    model = Qwen(CONFIG).init_weights(0)
    model.model.layers[0].mlp.gate_proj = Approximate()
    with pytest.raises(CheckpointError, match="merging changes the logits by .* keep the adapter"):
        merge(attach(model, LORA))


def test_a_merge_to_infinity_is_refused() -> None:
    model = attach(Qwen(CONFIG).init_weights(0), LORA).half()
    lora = model.model.layers[0].mlp.down_proj
    lora.base.weight.data.fill_(60000)
    lora.lora_A.data.fill_(100)
    lora.lora_B.data.fill_(100)
    with pytest.raises(CheckpointError, match="merging changes the logits"):
        merge(model)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"rank": 0}, "rank = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"target_modules": ("c_attn",)}, "c_attn is not valid"),
        ({"target_modules": ()}, "- is not valid"),
        ({"modules_to_save": ("norm",)}, "norm is not valid"),
    ],
)
def test_invalid_adapter_configs_are_refused(change: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        attach(Qwen(CONFIG), replace(LORA, **change))


def test_a_second_adapter_is_refused() -> None:
    with pytest.raises(ConfigError, match="already has an adapter"):
        attach(attach(Qwen(CONFIG), LORA), LORA)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_without_adapter_gives_the_base_model(dtype: torch.dtype) -> None:
    base = Qwen(CONFIG).init_weights(0).to(dtype)
    expected = base.logits(base(IDS)).detach()
    model = learned(attach(base, LORA)).to(dtype).train()
    adapted_logits = model.logits(model(IDS)).detach()
    with without_adapter(model):
        with_gradients = model.logits(model(IDS))
        with torch.no_grad(), without_adapter(model):
            assert torch.equal(model.logits(model(IDS)), expected)
        assert torch.equal(model.logits(model(IDS)), expected), "the outer block holds after the inner one"
    assert torch.equal(with_gradients, expected) and not with_gradients.requires_grad
    assert torch.equal(model.logits(model(IDS)), adapted_logits) and not torch.equal(adapted_logits, expected)
    with pytest.raises(ZeroDivisionError), without_adapter(model):
        _ = 1 / 0
    assert torch.equal(model.logits(model(IDS)), adapted_logits)


def test_a_gradient_passes_a_linear_whose_adapter_is_off() -> None:
    lora = LoraLinear(nn.Linear(6, 5).requires_grad_(False), 2)
    x = torch.randn(3, 6, requires_grad=True)
    with without_adapter(lora):
        lora(x).sum().backward()
    torch.testing.assert_close(x.grad, lora.base.weight.sum(0).expand(3, 6))
    assert lora.lora_A.grad is None


def test_without_adapter_needs_an_adapter_and_an_unchanged_base() -> None:
    with pytest.raises(ConfigError, match="no adapter to switch off"), without_adapter(Qwen(CONFIG)):
        pass
    full = attach(Qwen(CONFIG), replace(LORA, modules_to_save=("embed_tokens",)))
    with pytest.raises(ConfigError, match="embed_tokens.weight: trained fully"), without_adapter(full):
        pass
