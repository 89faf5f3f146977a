import dataclasses

import pytest
import torch

from qianwen.model import PRESETS, Qwen, QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError

SHAPE = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("1.8b", 1_836_828_672),
        ("7b", 7_721_324_544),
        ("14b", 14_167_290_880),
        ("72b", 72_287_920_128),
        ("qwen2.5-0.5b", 494_032_768),
    ],
)
def test_published_sizes_have_the_published_parameters(name, count):
    with torch.device("meta"):
        model = Qwen(PRESETS[name])
    assert sum(parameter.numel() for parameter in model.parameters()) == count


def test_small_presets_have_the_size_in_their_name():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in Qwen(PRESETS[name]).parameters()) for name in ("tiny", "20m", "100m")]
    assert counts[0] < 10e6 and abs(counts[1] - 20e6) < 1e6 and abs(counts[2] - 100e6) < 5e6


def test_omitted_fields_are_derived():
    config = QwenConfig(**SHAPE, max_position_embeddings=128)
    assert (config.num_key_value_heads, config.head_dim, config.train_len) == (4, 8, 128)
    assert dataclasses.replace(config, vocab_size=99).vocab_size == 99
    assert config.window(0) == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("vocab_size", 0),
        ("hidden_size", -4),
        ("num_hidden_layers", 2.0),
        ("num_attention_heads", True),
        ("num_attention_heads", 0),
        ("num_key_value_heads", 3),
        ("head_dim", 7),
        ("rope_theta", float("nan")),
        ("rope_theta", "1e6"),
        ("rms_norm_eps", 0.0),
        ("rms_norm_eps", None),
        ("qkv_bias", 1),
        ("layer_windows", (4,)),
        ("layer_windows", (4, -1)),
        ("layer_windows", 4),
        ("train_len", 1.5),
        ("rope_scaling", "yarn"),
        ("rope_scaling", RopeState(method="dynamic_ntk", factor=3)),
    ],
)
def test_invalid_values_are_refused_by_name(field, value):
    with pytest.raises(ConfigError, match=field):
        QwenConfig(**{**SHAPE, field: value})


def test_a_dynamic_scaling_begins_at_its_original_length():
    dynamic = RopeState(method="dynamic_ntk", factor=2, original_len=128)
    config = QwenConfig(**SHAPE, rope_scaling=dynamic, scaling_from=128)
    with pytest.raises(ConfigError, match="rope_scaling"):
        dataclasses.replace(config, scaling_from=64)


def test_a_config_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["tiny"].vocab_size = 3  # type: ignore[misc]
