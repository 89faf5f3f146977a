"""Scaled positions against transformers: frequencies, logits of a state, and models whose config.json has a scaling."""

from typing import Any

import pytest
import torch

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
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


# ---- models by their config.json --------------------------------------------------------------------------------

CLASSES = {"qwen2": "Qwen2", "qwen3": "Qwen3", "llama": "Llama"}
ORIGINAL = 48
YARN = {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": ORIGINAL}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {"rope_type": "default"},
    "linear": {"rope_type": "linear", "factor": 2.5},
    "linear, older key": {"type": "linear", "factor": 2},
    "linear, base inside": {"type": "linear", "factor": 2.0, "rope_theta": 5e4},
    "dynamic": {"rope_type": "dynamic", "factor": 2.0},
    "yarn": YARN,
    "yarn, null factor": YARN | {"factor": None, "beta_fast": None},
    "yarn, temperature": YARN | {"attention_factor": 1.3, "beta_fast": 8, "beta_slow": 0.5},
    "yarn, mscale": YARN | {"mscale": 0.7, "mscale_all_dim": 1.4, "truncate": False},
    "llama3": {
        **{"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": ORIGINAL},
        **{"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    },
}
SHAPE = {
    "vocab_size": 160, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 4 * ORIGINAL, "rope_theta": 1e4,
    "rms_norm_eps": 1e-6, "tie_word_embeddings": True,
}  # fmt: skip


def theirs_of(raw: dict[str, Any], weights: Any = None) -> Any:
    name, raw = CLASSES[raw["model_type"]], {key: value for key, value in raw.items() if key != "model_type"}
    config = getattr(transformers, f"{name}Config")(**raw, attn_implementation="eager")
    model = getattr(transformers, f"{name}Model")(config).eval()
    if weights is None:
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    else:
        model.load_state_dict(weights)
    return model


def hidden_of(config: QwenConfig, weights: Any, ids: torch.Tensor) -> torch.Tensor:
    ours = Qwen(config).eval()
    ours.load_state_dict({f"model.{name}": value for name, value in weights.items()}, strict=False)
    return ours(ids)


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("model_type", CLASSES)
@torch.no_grad()
def test_hidden_states_of_a_file_agree(model_type, name, field):
    plain = SHAPE | {"model_type": model_type}
    base = {"rope_theta": 1e4} if field == "rope_parameters" else {}
    scaled = plain | {field: base | SCALINGS[name]}
    config = config_from_hf(scaled)
    assert (config.scaling_from > 0) == (name == "dynamic" or ("yarn" in name and model_type != "llama"))
    theirs = theirs_of(scaled)
    weights = theirs.state_dict()
    unscaled = theirs_of(plain, weights)
    lengths = {"short": ORIGINAL, "long": 4 * ORIGINAL, "beyond": 4 * ORIGINAL + 9}
    for length in lengths.values():
        ids = torch.randint(160, (1, length), generator=torch.Generator().manual_seed(1))
        reference = theirs if length > config.scaling_from else unscaled
        expected = reference(ids).last_hidden_state
        torch.testing.assert_close(hidden_of(config, weights, ids), expected, rtol=1e-4, atol=1e-4)
        if length > config.scaling_from and name != "default":  # the scaling matters
            assert (unscaled(ids).last_hidden_state - expected).abs().max() > 2e-3


@pytest.mark.parametrize("name", SCALINGS)
@pytest.mark.parametrize("model_type", CLASSES)
def test_both_programs_read_what_the_other_writes(model_type, name):
    config = config_from_hf(SHAPE | {"model_type": model_type, "rope_scaling": SCALINGS[name]})
    written = config_to_hf(config)
    their_class = getattr(transformers, f"{CLASSES[model_type]}Config")
    theirs = their_class(**{key: value for key, value in written.items() if key != "model_type"})
    assert config_from_hf(theirs.to_dict()) == config
    if config.rope_scaling.method not in ("none", "dynamic_ntk"):
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        kind = theirs.rope_parameters["rope_type"]
        expected, temperature = ROPE_INIT_FUNCTIONS[kind](theirs, "cpu")
        ours = config.rope_scaling.frequencies(config.rope_theta, config.head_dim)
        torch.testing.assert_close(ours, expected, rtol=1e-6, atol=0)
        assert config.rope_scaling.temperature == pytest.approx(temperature, rel=1e-6)
