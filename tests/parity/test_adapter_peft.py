"""Adapters against PEFT on transformers' Qwen2: its files load here, ours load there, and the logits agree."""

from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.adapter_folder import load_adapter, write_adapter
from qianwen.checkpoints.hf_weights import load_weights, save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach, merge
from qianwen.model.transformer import Qwen

transformers = pytest.importorskip("transformers", reason="the parity extra is not installed")
peft = pytest.importorskip("peft", reason="the parity extra is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

IDS = torch.arange(24).reshape(2, 12)
WHOLE = [(), ("embed_tokens", "lm_head")]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    config = QwenConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, tie_word_embeddings=request.param,
    )  # fmt: skip
    save_weights(Qwen(config).init_weights(3), tmp_path / "base")
    return tmp_path / "base"


def theirs(base: Path):
    return transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32).eval()


def ours(model: Qwen) -> torch.Tensor:
    return model.logits(model(IDS))


def shaken(model: torch.nn.Module) -> torch.nn.Module:
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data += torch.randn(weight.shape, generator=generator) * 0.1
    return model.eval()


@pytest.mark.parametrize("whole", WHOLE)
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_of_peft_loads_here(base: Path, tmp_path: Path, whole: tuple, rslora: bool) -> None:
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "v_proj", "gate_proj", "down_proj"],
        modules_to_save=list(whole) or None,
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )
    model = shaken(peft.get_peft_model(theirs(base), config))
    model.save_pretrained(tmp_path / "adapter")
    loaded = load_adapter(load_weights(base), tmp_path / "adapter")
    torch.testing.assert_close(ours(loaded), model(IDS).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("whole", WHOLE)
def test_our_adapter_loads_in_peft(base: Path, tmp_path: Path, whole: tuple) -> None:
    config = LoraConfig(rank=4, alpha=6, modules_to_save=whole)
    model = shaken(attach(load_weights(base), config))
    (tmp_path / "adapter").mkdir()
    write_adapter(model, tmp_path / "adapter", config, str(base))
    there = peft.AutoPeftModelForCausalLM.from_pretrained(tmp_path / "adapter").eval()
    torch.testing.assert_close(there(IDS).logits, ours(model), atol=1e-5, rtol=1e-4)
    merged = there.merge_and_unload()
    merge(model)
    torch.testing.assert_close(merged(IDS).logits, ours(model), atol=1e-5, rtol=1e-4)
    parts = zip(merged.model.layers, model.model.layers, strict=True)
    for a, b in parts:
        torch.testing.assert_close(a.mlp.down_proj.weight, b.mlp.down_proj.weight, atol=1e-6, rtol=1e-6)


def test_the_gradient_step_is_the_same(base: Path) -> None:
    config = LoraConfig(rank=4, alpha=6, dropout=0.0, target_modules=("q_proj", "down_proj"))
    model = attach(load_weights(base), config).train()
    there = peft.get_peft_model(
        theirs(base), peft.LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "down_proj"])
    ).train()
    for name, lora in adapted(model):
        other = there.get_submodule(f"base_model.model.{name}")
        lora.lora_B.data.normal_(std=0.1)
        other.lora_A["default"].weight.data.copy_(lora.lora_A)
        other.lora_B["default"].weight.data.copy_(lora.lora_B)
    ours(model).square().sum().backward()
    there(IDS).logits.square().sum().backward()
    for name, lora in adapted(model):
        other = there.get_submodule(f"base_model.model.{name}")
        torch.testing.assert_close(lora.lora_A.grad, other.lora_A["default"].weight.grad, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(lora.lora_B.grad, other.lora_B["default"].weight.grad, atol=1e-4, rtol=1e-4)
