"""Adapter folders: round trips, also for the modules of Qwen v1, and invalid folders."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qianwen.checkpoints.adapter_folder import CONFIG, TENSORS, base_of, load_adapter, write_adapter
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError

SHAPE = QwenConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, tie_word_embeddings=True,
)  # fmt: skip
LORA = LoraConfig(rank=4, alpha=8, dropout=0.1)
IDS = torch.arange(12).reshape(1, 12)


def fresh(config: QwenConfig = SHAPE) -> Qwen:
    return Qwen(config).init_weights(0).eval()


def trained(lora: LoraConfig = LORA, config: QwenConfig = SHAPE) -> Qwen:
    model = attach(fresh(config), lora).eval()
    for weight in model.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.1)
    return model


def said(model: Qwen) -> torch.Tensor:
    return model.logits(model(IDS))


@pytest.mark.parametrize("whole", [(), ("embed_tokens",), ("embed_tokens", "lm_head")])
@pytest.mark.parametrize("tied", [True, False])
def test_there_and_back(tmp_path: Path, whole: tuple, tied: bool) -> None:
    lora, config = replace(LORA, modules_to_save=whole), replace(SHAPE, tie_word_embeddings=tied)
    model = trained(lora, config)
    write_adapter(model, tmp_path, lora, "some/base")
    assert base_of(tmp_path) == "some/base"
    again = load_adapter(fresh(config), tmp_path)
    assert torch.equal(said(again), said(model))
    assert again.config.tie_word_embeddings == tied


def test_a_head_trained_separately_is_no_longer_tied(tmp_path: Path) -> None:
    write_adapter(trained(), tmp_path, LORA, "base")
    tensors = load_file(tmp_path / TENSORS)
    head = torch.randn(96, 32)
    save_file(tensors | {"base_model.model.lm_head.weight": head}, tmp_path / TENSORS)
    model = load_adapter(fresh(), tmp_path)
    assert not model.config.tie_word_embeddings
    assert torch.equal(model.lm_head.weight, head) and not torch.equal(model.model.embed_tokens.weight, head)


def test_an_adapter_of_qwen_v1_modules(tmp_path: Path) -> None:
    """q, k and v share c_attn's A and take their rows of its B; w2 is the gate."""
    rank, generator = 3, torch.Generator().manual_seed(1)
    prefix = "base_model.model.transformer.h.1."
    shapes = {"attn.c_attn": (64, 32), "mlp.w2": (48, 32)}
    tensors = {}
    for name, (rows, columns) in shapes.items():
        tensors[f"{prefix}{name}.lora_A.weight"] = torch.randn(rank, columns, generator=generator)
        tensors[f"{prefix}{name}.lora_B.weight"] = torch.randn(rows, rank, generator=generator)
    save_file(tensors, tmp_path / TENSORS)
    (tmp_path / CONFIG).write_text(json.dumps({"peft_type": "LORA", "r": rank, "lora_alpha": 6}))
    model = load_adapter(fresh(), tmp_path)
    found = dict(adapted(model))
    assert len(found) == 4
    attention = model.model.layers[1].self_attn
    change = torch.cat(
        [linear.lora_B @ linear.lora_A for linear in (attention.q_proj, attention.k_proj, attention.v_proj)]
    )
    expected = tensors[prefix + "attn.c_attn.lora_B.weight"] @ tensors[prefix + "attn.c_attn.lora_A.weight"]
    torch.testing.assert_close(change, expected)
    gate = found["model.layers.1.mlp.gate_proj"]
    assert torch.equal(gate.lora_B, tensors[prefix + "mlp.w2.lora_B.weight"]) and gate.scale == 2.0


def test_rank_stabilised_scale(tmp_path: Path) -> None:
    write_adapter(trained(), tmp_path, LORA, "base")
    config = json.loads((tmp_path / CONFIG).read_text()) | {"use_rslora": True}
    (tmp_path / CONFIG).write_text(json.dumps(config))
    assert {lora.scale for _, lora in adapted(load_adapter(fresh(), tmp_path))} == {4.0}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"use_dora": True}, "use_dora = True is not supported"),
        ({"rank_pattern": {"q_proj": 2}}, "q_proj does not fit this network"),
        ({"bias": "all"}, "bias = all is not supported"),
        ({"r": 0}, "not a LoRA config"),
        ({"peft_type": "IA3"}, "not a LoRA config"),
        ({"r": 5}, "does not fit this network"),
    ],
)
def test_unsupported_adapter_configs_are_refused(tmp_path: Path, change: dict, complaint: str) -> None:
    write_adapter(trained(), tmp_path, LORA, "base")
    config = json.loads((tmp_path / CONFIG).read_text()) | change
    (tmp_path / CONFIG).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=complaint):
        load_adapter(fresh(), tmp_path)


def test_an_adapter_of_another_network_is_refused(tmp_path: Path) -> None:
    write_adapter(trained(), tmp_path, LORA, "base")
    with pytest.raises(CheckpointError, match="the network has no module for tensor"):
        load_adapter(fresh(replace(SHAPE, num_hidden_layers=1)), tmp_path)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_adapter(fresh(replace(SHAPE, intermediate_size=64)), tmp_path)
    whole = replace(LORA, modules_to_save=("embed_tokens",))
    write_adapter(trained(whole), tmp_path, whole, "base")
    with pytest.raises(CheckpointError, match="extend its vocabulary"):
        load_adapter(fresh(replace(SHAPE, vocab_size=128)), tmp_path)


def test_missing_parts_are_named(tmp_path: Path) -> None:
    write_adapter(trained(), tmp_path, LORA, "")
    with pytest.raises(CheckpointError, match="does not name its base model"):
        base_of(tmp_path)
    tensors = load_file(tmp_path / TENSORS)
    save_file({name: tensor for name, tensor in tensors.items() if "q_proj.lora_B" not in name}, tmp_path / TENSORS)
    with pytest.raises(CheckpointError, match="does not fit this network"):
        load_adapter(fresh(), tmp_path)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(CheckpointError, match="adapter_model.safetensors is missing"):
        load_adapter(fresh(), tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(b"")
    with pytest.raises(CheckpointError, match="is a pickle"):
        load_adapter(fresh(), tmp_path)
