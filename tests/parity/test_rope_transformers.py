"""Rotary frequencies and logits under scaled positions against transformers: linear, dynamic NTK, YaRN, Llama-3."""

from typing import Any

import pytest
import torch

from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.model import ContiguousCache, Qwen, QwenConfig
from qianwen.model.rope_state import RopeState

transformers = pytest.importorskip("transformers", reason="transformers is not installed")

CONFIG = QwenConfig(
    vocab_size=160, hidden_size=128, intermediate_size=112, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=64, rope_theta=1e4,
)  # fmt: skip
STATES: dict[str, tuple[RopeState, dict[str, Any]]] = {
    "linear": (RopeState(method="linear", factor=4), {"rope_type": "linear", "factor": 4.0}),
    "yarn": (
        RopeState(method="yarn", factor=4, original_len=64),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64},
    ),
    "yarn, exact bounds": (
        RopeState(method="yarn", factor=8, original_len=2048, beta_fast=20, beta_slow=2, truncate=False),
        {
            "rope_type": "yarn",
            "factor": 8.0,
            "original_max_position_embeddings": 2048,
            "beta_fast": 20,
            "beta_slow": 2,
            "truncate": False,
        },
    ),
    "yarn, no temperature": (
        RopeState(method="yarn", factor=4, original_len=4096, attention_factor=1),
        {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096, "attention_factor": 1.0},
    ),
    "llama3": (
        RopeState(method="llama3", factor=8, original_len=512),
        {
            "rope_type": "llama3",
            "factor": 8.0,
            "original_max_position_embeddings": 512,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        },
    ),
}


def their_config(rope: dict[str, Any]) -> Any:
    hf = config_to_hf(CONFIG)
    hf.pop("model_type")
    hf.pop("rope_theta", None)
    return transformers.Qwen2Config(
        **hf | {"rope_parameters": {"rope_theta": CONFIG.rope_theta, **rope}}, attn_implementation="eager"
    )


@pytest.mark.parametrize("name", STATES)
def test_frequencies_and_temperature_agree(name):
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    state, rope = STATES[name]
    expected, temperature = ROPE_INIT_FUNCTIONS[rope["rope_type"]](their_config(rope), "cpu")
    torch.testing.assert_close(state.frequencies(CONFIG.rope_theta, CONFIG.head_dim), expected, rtol=1e-6, atol=0)
    assert state.temperature == pytest.approx(temperature)


@pytest.mark.parametrize("length", [64, 65, 200, 1000])
def test_dynamic_frequencies_agree(length):
    """Theirs take the length as it is, and alpha 1 within the trained length; ours takes any alpha."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    config = their_config({"rope_type": "dynamic", "factor": 3.0})
    expected, _ = ROPE_INIT_FUNCTIONS["dynamic"](config, "cpu", seq_len=length)
    alpha = 3 * length / CONFIG.max_position_embeddings - 2
    state = RopeState(method="dynamic_ntk", factor=alpha)
    torch.testing.assert_close(state.frequencies(CONFIG.rope_theta, CONFIG.head_dim), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("name", STATES)
@torch.no_grad()
def test_logits_agree(name):
    state, rope = STATES[name]
    theirs = transformers.Qwen2ForCausalLM(their_config(rope)).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    ours = Qwen(CONFIG).eval()
    ours.load_state_dict(theirs.state_dict())
    ids, cache = torch.randint(160, (1, 150)), ContiguousCache(CONFIG, max_len=150, rope=state)
    hidden = torch.cat([ours(piece, cache=cache) for piece in ids.split([100, 49, 1], dim=1)], dim=1)
    logits, expected = ours.logits(hidden), theirs(ids).logits
    torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-4)
    assert (ours.logits(ours(ids)) - expected).abs().max() > 5e-3  # the state matters
