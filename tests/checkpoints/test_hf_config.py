import json

import pytest

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
from qianwen.model import PRESETS, QwenConfig
from qianwen.runtime.errors import ConfigError

V1_LATE = dict(
    architectures=["QWenLMHeadModel"],
    model_type="qwen",
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    kv_channels=128,
    intermediate_size=22016,
    vocab_size=151936,
    rotary_emb_base=10000,
    rotary_pct=1.0,
    seq_length=8192,
    max_position_embeddings=32768,
    layer_norm_epsilon=1e-6,
    initializer_range=0.02,
    no_bias=True,
    scale_attn_weights=True,
    tie_word_embeddings=False,
    use_dynamic_ntk=True,
    use_logn_attn=True,
    use_flash_attn="auto",
    onnx_safe=None,
    bf16=False,
)
V1_EARLY = dict(
    model_type="qwen",
    n_embd=4096,
    n_layer=32,
    n_head=32,
    n_positions=6144,
    ffn_hidden_size=22016,
    kv_channels=128,
    padded_vocab_size=151936,
    vocab_size=151851,
    rotary_emb_base=10000,
    seq_length=2048,
    layer_norm_epsilon=1e-6,
    activation="swiglu",
    pos_emb="rotary",
    resid_pdrop=0.1,
    apply_residual_connection_post_layernorm=False,
    no_bias=True,
    use_dynamic_ntk=True,
    use_logn_attn=True,
)
QWEN2 = dict(
    model_type="qwen2",
    architectures=["Qwen2ForCausalLM"],
    vocab_size=151936,
    hidden_size=896,
    intermediate_size=4864,
    num_hidden_layers=24,
    num_attention_heads=14,
    num_key_value_heads=2,
    hidden_act="silu",
    max_position_embeddings=32768,
    rms_norm_eps=1e-6,
    rope_theta=1000000.0,
    rope_scaling=None,
    tie_word_embeddings=True,
    use_sliding_window=False,
    sliding_window=32768,
    max_window_layers=24,
)


def test_the_second_generation_of_v1_keys():
    assert config_from_hf(V1_LATE) == PRESETS["7b"]


def test_the_first_generation_of_v1_keys():
    config = config_from_hf(V1_EARLY)
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (4096, 32, 32)
    assert (config.vocab_size, config.intermediate_size) == (151936, 11008)
    assert (config.max_position_embeddings, config.train_len) == (6144, 2048)


def test_qwen2_keys():
    assert config_from_hf(QWEN2) == PRESETS["qwen2.5-0.5b"]
    assert config_from_hf({**QWEN2, "model_type": None}) == PRESETS["qwen2.5-0.5b"]


def test_rope_parameters_of_newer_files():
    hf = {key: value for key, value in QWEN2.items() if not key.startswith("rope")}
    assert config_from_hf({**hf, "rope_parameters": {"rope_type": "default", "rope_theta": 5e5}}).rope_theta == 5e5


def test_qwen3_and_llama_have_no_biases():
    qwen3 = config_from_hf({**QWEN2, "model_type": "qwen3"})
    assert (qwen3.qkv_bias, qwen3.qk_norm, qwen3.head_dim) == (False, True, 128)
    llama = config_from_hf({**QWEN2, "model_type": "llama", "attention_bias": False})
    assert (llama.qkv_bias, llama.qk_norm, llama.head_dim) == (False, False, 64)


def test_sliding_layers_become_windows():
    slides = {**QWEN2, "use_sliding_window": True, "sliding_window": 4096, "max_window_layers": 20}
    assert config_from_hf(slides).layer_windows == (0,) * 20 + (4096,) * 4
    kinds = ["sliding_attention", "full_attention"] * 12
    assert config_from_hf({**slides, "layer_types": kinds}).layer_windows == (4096, 0) * 12


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": None, "architectures": None}, "llama"),
        ({"rope_scaling": {"type": "longrope", "factor": 4.0}}, "rope_scaling"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_parameters"),
        ({"hidden_act": "gelu"}, "hidden_act"),
        ({"attention_bias": True}, "attention_bias"),
        ({"mlp_bias": True}, "mlp_bias"),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"hidden_size": None, "vocab_size": None}, "vocab_size, hidden_size"),
        ({"num_hidden_layers": "24"}, "num_hidden_layers"),
        ({"hidden_size": [1]}, "hidden_size"),
        ({"rope_theta": "big"}, "rope_theta"),
        ({"rope_scaling": "yarn"}, "rope_scaling"),
        ({"layer_types": ["full_attention"]}, "layer_windows"),
    ],
)
def test_unsupported_fields_are_refused_by_name(changes, named):
    base = {**QWEN2, "use_sliding_window": True}
    with pytest.raises(ConfigError, match=named):
        config_from_hf({**base, **changes})


def test_a_vision_model_of_the_v1_family_is_refused():
    with pytest.raises(ConfigError, match="visual"):
        config_from_hf({**V1_LATE, "visual": {"layers": 48}})


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_configs_survive_the_round_trip(name):
    config = PRESETS[name]
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config


@pytest.mark.parametrize(
    "changes",
    [
        {"qkv_bias": False, "qk_norm": True, "head_dim": 48},
        {"qkv_bias": False, "num_key_value_heads": 2},
        {"layer_windows": (0, 8, 8, 8)},
        {"layer_windows": (8, 8, 0, 0)},
        {"layer_windows": (8, 16, 0, 0)},
        {"qkv_bias": False, "layer_windows": (8, 0, 8, 0)},
        {"use_dynamic_ntk": True, "use_logn_attn": True, "train_len": 16},
    ],
)
def test_unusual_shapes_survive_the_round_trip(changes):
    shape = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=4, num_attention_heads=4)
    config = QwenConfig(**shape | changes)
    assert config_from_hf(json.loads(json.dumps(config_to_hf(config)))) == config


def test_v1_layout_writes_the_doubled_width():
    hf = config_to_hf(PRESETS["7b"], "qwen")
    assert hf["intermediate_size"] == 22016 and hf["architectures"] == ["QWenLMHeadModel"]
    assert config_from_hf(hf) == PRESETS["7b"]


@pytest.mark.parametrize(
    ("name", "model_type", "field"),
    [
        ("qwen2.5-7b", "qwen", "num_key_value_heads"),
        ("tiny", "qwen", "tie_word_embeddings"),
        ("7b", "qwen3", "qkv_bias"),
        ("7b", "gpt2", "model_type"),
    ],
)
def test_an_architecture_that_cannot_hold_the_shape_is_refused(name, model_type, field):
    with pytest.raises(ConfigError, match=field):
        config_to_hf(PRESETS[name], model_type)
