"""rope_scaling and rope_parameters of config.json: every type is read as transformers reads it, and written back."""

import json
import math
from dataclasses import replace

import pytest

from qianwen.checkpoints.hf_config import config_from_hf, config_to_hf
from qianwen.model import PRESETS, QwenConfig
from qianwen.model.long_context import rope_state
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError

SHAPE = {
    "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1, "num_attention_heads": 2,
    "max_position_embeddings": 4096,
}  # fmt: skip
YARN = {"rope_type": "yarn", "factor": 4, "original_max_position_embeddings": 1024}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 512, "low_freq_factor": 1,
    "high_freq_factor": 4,
}  # fmt: skip


def read(scaling: object, model_type: str = "llama", field: str = "rope_scaling", **extra: object) -> QwenConfig:
    return config_from_hf({**SHAPE, "model_type": model_type, field: scaling, **extra})


STATES = [
    ({"type": "linear", "factor": 2}, RopeState(method="linear", factor=2)),
    ({"rope_type": "linear", "factor": 8.0, "type": None}, RopeState(method="linear", factor=8)),
    (YARN, RopeState(method="yarn", factor=4, original_len=1024)),
    (YARN | {"original_max_position_embeddings": 1024.0}, RopeState(method="yarn", factor=4, original_len=1024)),
    ({"type": "yarn", "factor": 4.0}, RopeState(method="yarn", factor=4, original_len=4096)),
    (YARN | {"factor": None}, RopeState(method="yarn", factor=4, original_len=1024)),
    (
        YARN | {"beta_fast": 20, "beta_slow": 2, "truncate": False, "attention_factor": None},
        RopeState(method="yarn", factor=4, original_len=1024, beta_fast=20, beta_slow=2, truncate=False),
    ),
    (YARN | {"attention_factor": 1.5}, RopeState(method="yarn", factor=4, original_len=1024, attention_factor=1.5)),
    (YARN | {"attention_factor": 0.1 * math.log(4) + 1}, RopeState(method="yarn", factor=4, original_len=1024)),
    (
        YARN | {"attn_factor": 0.8782488562869419},  # DeepSeek-R1-0528-Qwen3-8B
        RopeState(method="yarn", factor=4, original_len=1024, attention_factor=1),
    ),
    (
        YARN | {"mscale": 1.0, "mscale_all_dim": 1.0},
        RopeState(method="yarn", factor=4, original_len=1024, attention_factor=1),
    ),
    (
        YARN | {"mscale": 1.0, "mscale_all_dim": 0, "beta_fast": 0},
        RopeState(method="yarn", factor=4, original_len=1024),
    ),
    (YARN | {"mscale": 0.5}, RopeState(method="yarn", factor=4, original_len=1024)),
    (LLAMA3, RopeState(method="llama3", factor=8, original_len=512)),
    (
        LLAMA3 | {"original_max_position_embeddings": None, "low_freq_factor": 2},
        RopeState(method="llama3", factor=8, original_len=4096, low_freq_factor=2),
    ),
    ({"type": "dynamic", "factor": 2.0}, RopeState(method="dynamic_ntk", factor=2, original_len=4096)),
    ({"type": "yarn", "factor": 1.0}, RopeState()),
    ({"rope_type": "mrope", "mrope_section": [2, 3, 3]}, RopeState()),
]


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(("scaling", "expected"), STATES, ids=lambda value: str(value)[:60])
def test_each_type_is_read_and_written_back(field, scaling, expected):
    for model_type in ("llama", "qwen2", "qwen3"):
        config = read(scaling, model_type, field)
        assert config.rope_scaling == expected
        written = json.loads(json.dumps(config_to_hf(config)))
        assert config_from_hf(written) == config
        assert ("rope_scaling" in written) == (expected.method != "none")


def test_the_base_is_read_beside_the_scaling():
    assert read(YARN | {"rope_theta": 5e5}, field="rope_parameters").rope_theta == 5e5
    assert read(YARN, rope_theta=5e5).rope_theta == 5e5
    assert read(YARN | {"rope_theta": 5e5}).rope_theta == 5e5
    with pytest.raises(ConfigError, match="partial_rotary_factor"):
        read(YARN | {"partial_rotary_factor": 0.5})
    assert read(YARN, rope_theta=5e5, rope_parameters={"rope_theta": 5e5, **YARN}).rope_scaling.factor == 4


def test_the_original_length_beside_the_scaling_has_priority():
    assert read(YARN, original_max_position_embeddings=2048).rope_scaling.original_len == 2048


def test_the_128k_configuration_of_qwen25():
    scaling = {"factor": 4.0, "original_max_position_embeddings": 32768, "type": "yarn"}
    plain = config_to_hf(PRESETS["qwen2.5-7b"])
    config = config_from_hf(plain | {"rope_scaling": scaling})
    assert (config.train_len, config.scaling_from, config.max_position_embeddings) == (32768, 32768, 131072)
    assert rope_state(config, 32768) == RopeState()
    assert (
        rope_state(config, 32769)
        == rope_state(config, 131072)
        == RopeState(method="yarn", factor=4, original_len=32768)
    )
    trained = config_from_hf(plain | {"rope_scaling": scaling | {"finetuned": True}})
    assert rope_state(trained, 1).method == "yarn" and trained.train_len == 131072


def test_llama_3_1_scales_every_text():
    scaling = LLAMA3 | {"original_max_position_embeddings": 8192}
    config = read(scaling, max_position_embeddings=131072)
    assert (config.train_len, config.scaling_from, config.max_position_embeddings) == (131072, 0, 131072)
    assert rope_state(config, 1) == rope_state(config, 100_000) == config.rope_scaling


def test_a_length_that_the_user_set_survives():
    config = replace(read(YARN, "qwen2"), max_position_embeddings=3000, scaling_from=500, train_len=700)
    assert config_from_hf(config_to_hf(config)) == config


def test_qwen25_1m_is_served_up_to_one_chunk():
    chunks = {"chunk_size": 262144, "local_size": 8192, "original_max_position_embeddings": 262144}
    config = read(None, "qwen2", max_position_embeddings=1010000, dual_chunk_attention_config=chunks)
    assert config.max_position_embeddings == config.train_len == 262144
    assert read(None, "qwen2", dual_chunk_attention_config=chunks).max_position_embeddings == 4096


def test_both_spellings_of_the_temperature_are_written():
    state = RopeState(method="yarn", factor=4, original_len=1024, attention_factor=1)
    written = config_to_hf(replace(read(YARN), rope_scaling=state))["rope_scaling"]
    assert written["attention_factor"] == 1.0 and written["attn_factor"] == pytest.approx(0.8782488562869419)


WRONG = [
    ({"type": "longrope", "short_factor": [1.0]}, "LongRoPE .* cannot be used"),
    ({"type": "su"}, "LongRoPE"),
    ({"full_attention": {"rope_type": "default"}}, "separate rotations for full_attention"),
    ({"factor": 4.0}, "has no type"),
    ({"type": "", "factor": 4.0}, "has no type"),
    ({"original_max_position_embeddings": 4096}, "has no type"),
    ({"rope_type": "axial"}, "'axial' is not supported"),
    ({"type": ["linear"], "factor": 2.0}, "not supported"),
    ("linear", "not supported"),
    ([4.0], "not supported"),
    ({"type": "linear"}, "linear has no factor"),
    ({"type": "llama3", "factor": 8.0}, "has no low_freq_factor, high_freq_factor"),
    ({"type": "linear", "factor": "4"}, "factor = '4' is not a valid value"),
    ({"type": "linear", "factor": True}, "factor = True"),
    ({"type": "linear", "factor": 0.5}, "rope_.*: factor = 0.5"),
    ({"type": "linear", "factor": float("nan")}, "factor = nan"),
    ({"type": "linear", "factor": float("inf")}, "factor = inf"),
    ({"type": "dynamic", "factor": 1.0, "alpha": 1000.0}, "not known here: alpha"),
    (YARN | {"attention_factor": 0}, "attention_factor = 0"),
    (YARN | {"extrapolation_factor": 0.5}, "extrapolation_factor = 0.5"),
    (YARN | {"truncate": "no"}, "truncate = 'no'"),
    (YARN | {"original_max_position_embeddings": 1024.5}, "1024.5"),
    (YARN | {"original_max_position_embeddings": -1}, "-1"),
    (YARN | {"attn_factor": 0}, "attention_factor = 0"),
    (YARN | {"factor": 0}, "rope_.*: factor = 0"),
    (LLAMA3 | {"low_freq_factor": 4.0}, "high_freq_factor"),
]


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize(("scaling", "message"), WRONG, ids=str)
def test_what_cannot_be_computed_is_refused(field, scaling, message):
    with pytest.raises(ConfigError, match=message) as refused:
        read(scaling, field=field)
    assert field in str(refused.value)


def test_contradictions_are_refused():
    with pytest.raises(ConfigError, match="different contents"):
        read(YARN, rope_parameters=LLAMA3)
    with pytest.raises(ConfigError, match="max_position_embeddings"):
        read(YARN, max_position_embeddings="long")


def test_the_v1_layout_has_no_scaling():
    config = replace(PRESETS["7b"], rope_scaling=RopeState(method="linear", factor=2))
    with pytest.raises(ConfigError, match="layout of Qwen v1 has no rope scaling"):
        config_to_hf(config, "qwen")
    with pytest.raises(ConfigError, match="Qwen v1 models have no rope scaling"):
        config_from_hf(config_to_hf(PRESETS["7b"], "qwen") | {"rope_scaling": YARN})
