"""The v1 layout against a second reading of the released block, straight from its file tensors.

`v1_logits` shares no line with the package: it follows the released modelling file, with that file's own names. Our
network, loaded from the same folder or from its Qwen2 re-layout, must agree with it.
"""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from qianwen.checkpoints.hf_weights import load_weights, save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen

CONFIG = QwenConfig(
    vocab_size=128, hidden_size=64, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
    max_position_embeddings=256, train_len=64, rope_theta=10000.0,
)  # fmt: skip


def v1_logits(folder: Path, ids: Tensor) -> Tensor:
    """ids [B, T] → logits [B, T, V], in the manner of `modeling_qwen.py`."""
    tensors, config = load_file(folder / "model.safetensors"), json.loads((folder / "config.json").read_text())
    heads, dim, eps = config["num_attention_heads"], config["kv_channels"], config["layer_norm_epsilon"]
    steps = ids.shape[1]

    def norm(x: Tensor, name: str) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps) * tensors[f"transformer.{name}.weight"]

    inverse = 1.0 / (config["rotary_emb_base"] ** (torch.arange(0, dim, 2).float() / dim))
    freqs = torch.outer(torch.arange(steps).float(), inverse)
    emb = torch.cat((freqs, freqs), dim=-1)[None, :, None, :]

    def rotate(x: Tensor) -> Tensor:
        left, right = x.split(dim // 2, dim=-1)
        return x * emb.cos() + torch.cat((-right, left), dim=-1) * emb.sin()

    hidden = tensors["transformer.wte.weight"][ids]
    causal = torch.full((steps, steps), torch.finfo(torch.float32).min).triu(1)
    for i in range(config["num_hidden_layers"]):
        block = f"transformer.h.{i}"
        fused = norm(hidden, f"h.{i}.ln_1") @ tensors[f"{block}.attn.c_attn.weight"].T
        fused = fused + tensors[f"{block}.attn.c_attn.bias"]
        q, k, v = (part.view(*ids.shape, heads, dim) for part in fused.split(heads * dim, dim=2))
        q, k, v = rotate(q).transpose(1, 2), rotate(k).transpose(1, 2), v.transpose(1, 2)
        scores = q @ k.transpose(-1, -2) / dim**0.5 + causal
        mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(*ids.shape, heads * dim)
        hidden = hidden + mixed @ tensors[f"{block}.attn.c_proj.weight"].T
        x = norm(hidden, f"h.{i}.ln_2")
        gate = torch.nn.functional.silu(x @ tensors[f"{block}.mlp.w2.weight"].T)
        hidden = hidden + (x @ tensors[f"{block}.mlp.w1.weight"].T * gate) @ tensors[f"{block}.mlp.c_proj.weight"].T
    return norm(hidden, "ln_f") @ tensors["lm_head.weight"].T


@pytest.fixture
def model() -> Qwen:
    model = Qwen(CONFIG).init_weights(seed=3).eval()
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.named_parameters():
        if name.endswith(("norm.weight", "bias")):  # fresh ones and zeros would hide a mix-up
            parameter.data += 0.3 * torch.randn(parameter.shape, generator=generator)
        else:
            parameter.data *= 5
    return model


@torch.no_grad()
def test_v1_files_and_their_qwen2_relayout_give_the_released_logits(tmp_path: Path, model: Qwen) -> None:
    ids = torch.randint(0, CONFIG.vocab_size, (2, 60), generator=torch.Generator().manual_seed(5))
    save_weights(model, tmp_path / "v1", "qwen")
    expected = v1_logits(tmp_path / "v1", ids)
    from_v1 = load_weights(tmp_path / "v1")
    ours = from_v1.logits(from_v1(ids))
    torch.testing.assert_close(ours, expected, rtol=3e-5, atol=3e-5)
    assert torch.equal(ours.argmax(-1), expected.argmax(-1))
    save_weights(from_v1, tmp_path / "qwen2", "qwen2")
    relaid = load_weights(tmp_path / "qwen2")
    assert torch.equal(relaid.logits(relaid(ids)), ours)
