"""Logits against transformers' Qwen2, Qwen3 and Llama: fp32, random weights, six shapes and three lengths (R23)."""

import pytest
import torch

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
from qianwen.model import ContiguousCache, Qwen, QwenConfig

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

SHAPE = dict(vocab_size=160, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4)
SHAPE |= dict(max_position_embeddings=2048, rms_norm_eps=1e-6)
CONFIGS = {
    "qwen2-mha": QwenConfig(**SHAPE),
    "qwen2-gqa-tied": QwenConfig(**SHAPE, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=1e6),
    "qwen2-sliding": QwenConfig(**SHAPE, num_key_value_heads=1, layer_windows=(0, 24, 24)),
    "qwen3-gqa": QwenConfig(**SHAPE, num_key_value_heads=2, qkv_bias=False, qk_norm=True, head_dim=32, rope_theta=1e6),
    "llama-gqa": QwenConfig(**SHAPE, num_key_value_heads=2, qkv_bias=False, rope_theta=5e5),
    "llama-wide-heads-tied": QwenConfig(**SHAPE, qkv_bias=False, head_dim=24, tie_word_embeddings=True),
}
CLASSES = {
    "qwen2": (transformers.Qwen2Config, transformers.Qwen2ForCausalLM),
    "qwen3": (transformers.Qwen3Config, transformers.Qwen3ForCausalLM),
    "llama": (transformers.LlamaConfig, transformers.LlamaForCausalLM),
}


def pair(config):
    """The same random weights, norms and biases included, in both implementations."""
    hf = config_to_hf(config)
    config_class, model_class = CLASSES[hf.pop("model_type")]
    theirs = model_class(config_class(**hf, attn_implementation="eager")).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    ours = Qwen(config).eval()
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


@pytest.mark.parametrize("length", [1, 17, 130])
@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_logits_agree(name, length):
    ours, theirs = pair(CONFIGS[name])
    ids = torch.randint(160, (2, length))
    logits, expected = ours.logits(ours(ids)), theirs(ids).logits
    torch.testing.assert_close(logits, expected, rtol=3e-5, atol=3e-5)
    assert torch.equal(logits.argmax(-1), expected.argmax(-1))


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_cached_decoding_agrees(name):
    ours, theirs = pair(CONFIGS[name])
    ids, cache = torch.randint(160, (1, 40)), ContiguousCache(CONFIGS[name])
    hidden = torch.cat([ours(piece, cache=cache) for piece in ids.split([20, 15, *[1] * 5], dim=1)], dim=1)
    torch.testing.assert_close(ours.logits(hidden), theirs(ids).logits, rtol=3e-5, atol=3e-5)


@pytest.mark.parametrize("name", CONFIGS)
def test_gradients_agree(name):
    ours, theirs = pair(CONFIGS[name])
    ids = torch.randint(160, (2, 33))
    ours.logits(ours(ids)).logsumexp(-1).sum().backward()
    theirs(ids).logits.logsumexp(-1).sum().backward()
    gradients = dict(theirs.named_parameters())
    for key, parameter in ours.named_parameters():
        scale = gradients[key].grad.abs().max().item()
        torch.testing.assert_close(parameter.grad, gradients[key].grad, rtol=1e-4, atol=1e-4 * scale)


@torch.no_grad()
def test_our_config_reads_what_transformers_writes():
    for config in CONFIGS.values():
        config_class, _ = CLASSES[config.architecture]
        written = config_class(**config_to_hf(config)).to_dict()
        assert config_from_hf(written) == config
