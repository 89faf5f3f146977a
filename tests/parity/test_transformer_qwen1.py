"""Logits against a second reading of the Qwen v1 modelling file, dynamic NTK and LogN included (R23).

`reference` shares no line with the package. It follows the released code's own shape: one fused c_attn, keys and
queries rotated by tables over absolute positions, LogN as a table over positions, alpha from the prompt's length.
"""

import math

import pytest
import torch
from torch import Tensor

from qianwen.model import ContiguousCache, Qwen, QwenConfig

TRAIN_LEN = 32
CONFIG = QwenConfig(
    vocab_size=128,
    hidden_size=64,
    intermediate_size=80,
    num_hidden_layers=3,
    num_attention_heads=4,
    max_position_embeddings=256,
    train_len=TRAIN_LEN,
    use_dynamic_ntk=True,
    use_logn_attn=True,
)


def reference(weights: dict[str, Tensor], ids: Tensor, prompt_len: int) -> Tensor:
    """ids [T] → logits [T, V], as the released code computes them after a prompt of `prompt_len` tokens."""
    heads, dim, steps = CONFIG.num_attention_heads, CONFIG.head_dim, len(ids)
    alpha = max(2 ** math.ceil(math.log(prompt_len / TRAIN_LEN, 2) + 1) - 1, 1)
    base = CONFIG.rope_theta * alpha ** (dim / (dim - 2))
    freqs = torch.outer(torch.arange(steps).float(), 1.0 / base ** (torch.arange(0, dim, 2).float() / dim))
    emb = torch.cat((freqs, freqs), dim=-1)[:, None]
    logn = torch.tensor([math.log(i, TRAIN_LEN) if i > TRAIN_LEN else 1 for i in range(1, steps + 1)])

    def norm(x: Tensor, weight: Tensor) -> Tensor:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + CONFIG.rms_norm_eps) * weight

    def rotate(x: Tensor) -> Tensor:
        left, right = x.split(dim // 2, dim=-1)
        return x * emb.cos() + torch.cat((-right, left), dim=-1) * emb.sin()

    x = weights["model.embed_tokens.weight"][ids]
    for layer in range(CONFIG.num_hidden_layers):
        w = {key.split(".", 3)[3]: value for key, value in weights.items() if key.startswith(f"model.layers.{layer}.")}
        c_attn = torch.cat([w[f"self_attn.{name}_proj.weight"] for name in "qkv"])
        bias = torch.cat([w[f"self_attn.{name}_proj.bias"] for name in "qkv"])
        fused = norm(x, w["input_layernorm.weight"]) @ c_attn.T + bias
        q, k, v = (part.view(steps, heads, dim) for part in fused.chunk(3, dim=-1))
        q, k = rotate(q) * logn[:, None, None], rotate(k)
        scores = torch.einsum("thd,shd->hts", q, k) / math.sqrt(dim)
        scores = scores.masked_fill(torch.ones(steps, steps, dtype=torch.bool).triu(1), torch.finfo(torch.float32).min)
        mixed = torch.einsum("hts,shd->thd", scores.softmax(-1), v).reshape(steps, -1)
        x = x + mixed @ w["self_attn.o_proj.weight"].T
        hidden = norm(x, w["post_attention_layernorm.weight"])
        w1, w2 = hidden @ w["mlp.up_proj.weight"].T, hidden @ w["mlp.gate_proj.weight"].T
        x = x + (w1 * torch.nn.functional.silu(w2)) @ w["mlp.down_proj.weight"].T
    return norm(x, weights["model.norm.weight"]) @ weights["lm_head.weight"].T


@pytest.fixture
def model() -> Qwen:
    built = Qwen(CONFIG).eval()
    for parameter in built.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    return built


@pytest.mark.parametrize("length", [1, 32, 33, 64, 65, 200])
@torch.no_grad()
def test_reading(model, length):
    ids = torch.randint(128, (length,))
    logits, expected = model.logits(model(ids[None]))[0], reference(model.state_dict(), ids, length)
    torch.testing.assert_close(logits, expected, rtol=3e-5, atol=3e-5)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize(("prompt_len", "length"), [(30, 40), (33, 70), (60, 140)])
@torch.no_grad()
def test_generating_across_a_boundary(model, prompt_len, length):
    """The stretch stays the prompt's, while LogN goes on by position."""
    ids, cache = torch.randint(128, (length,)), ContiguousCache(CONFIG)
    pieces = ids[None].split([prompt_len, *[1] * (length - prompt_len)], dim=1)
    logits = model.logits(torch.cat([model(piece, cache=cache) for piece in pieces], dim=1))[0]
    torch.testing.assert_close(logits, reference(model.state_dict(), ids, prompt_len), rtol=3e-5, atol=3e-5)
