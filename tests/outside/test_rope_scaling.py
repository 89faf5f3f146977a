"""Rope scaling that would change the positions is refused by name; scaling that changes nothing is not."""

from pathlib import Path
from typing import Any

import pytest

from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.hf_config import config_from_hf
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError
from qianwen.tokenizer.vocab import Vocabulary

HF = {
    "model_type": "qwen2", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 1,
    "num_attention_heads": 2,
}  # fmt: skip
CHANGES = [
    {"factor": 4.0},
    {"factor": 2},
    {"type": "linear", "factor": 4.0},
    {"rope_type": "linear", "factor": 8},
    {"type": "dynamic", "factor": 2.0},
    {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0},
    {"rope_type": "longrope", "short_factor": [1.0]},
    {"type": None, "factor": 4.0},
    {"type": "", "factor": 4.0},
    {"type": "su"},
    {"original_max_position_embeddings": 4096},
    {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
    {"full_attention": {"rope_type": "default"}, "sliding_attention": {"rope_theta": 1e4}},
    {"rope_type": "default", "full_attention": {"rope_theta": 1e4}},
    {"type": ["linear"], "factor": 2.0},
    "linear",
    [4.0],
    4.0,
]
NOTHING = [
    None,
    {},
    {"type": "default"},
    {"rope_type": "default", "type": "default", "mrope_section": [4, 6, 6]},
    {"rope_type": "default", "rope_theta": 1e6},
    {"rope_theta": 1e6},
    {"type": None, "factor": None},
    {"factor": 1.0},
    {"type": "linear", "factor": 1},
]


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("scaling", CHANGES, ids=str)
def test_a_folder_that_scales_is_refused(field: str, scaling: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{field} = .*not supported"):
        config_from_hf({**HF, field: scaling})


@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("scaling", NOTHING, ids=str)
def test_a_folder_that_scales_by_nothing_is_read(field: str, scaling: Any) -> None:
    config = config_from_hf({**HF, field: scaling})
    theta = scaling.get("rope_theta") if scaling and field == "rope_parameters" else None
    assert config.rope_theta == (theta or 10000.0)


def save(path: Path, arch: str, **extra: Any) -> Path:
    fields = {"qkv_bias": arch != "llama" and arch != "qwen3", "qk_norm": arch == "qwen3"}
    config = QwenConfig(
        vocab_size=260, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, **fields
    )
    vocabulary = Vocabulary({bytes([value]): value for value in range(256)}, {"<|endoftext|>": 256})
    entries = {f"{arch}.{name.replace('__', '.')}": value for name, value in extra.items()}
    write_model(Qwen(config).init_weights(0), vocabulary, path, arch=arch, extra=entries)
    return path


@pytest.mark.parametrize("arch", ["qwen", "qwen2", "qwen3", "llama"])
@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"rope__scaling__factor": 4.0}, "factor 4.0 without a type"),
        ({"rope__scale_linear": 2.0}, "factor 2.0 without a type"),
        ({"rope__scaling__type": "linear", "rope__scaling__factor": 4.0}, "'linear'"),
        ({"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}, "'yarn'"),
        ({"rope__scaling__type": "longrope"}, "'longrope'"),
        ({"rope__scaling__type": 3}, "scaling 3"),
        ({"attention__causal": False}, "both directions"),
    ],
    ids=str,
)
def test_a_gguf_file_with_another_computation_is_refused(tmp_path: Path, arch: str, extra: dict, reason: str) -> None:
    with pytest.raises(ConfigError, match=r"m\.gguf.*" + reason):
        GgufModel(save(tmp_path / "m.gguf", arch, **extra))


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"rope__scaling__type": "none"},
        {"rope__scaling__type": "none", "rope__scaling__factor": 4.0},
        {"rope__scaling__factor": 1.0},
        {"rope__scaling__factor": 0.0},
        {"rope__scaling__type": "linear", "rope__scaling__factor": 1.0},
        {"attention__causal": True},
    ],
    ids=str,
)
def test_a_gguf_file_that_scales_by_nothing_is_read(tmp_path: Path, extra: dict) -> None:
    assert GgufModel(save(tmp_path / "m.gguf", "qwen2", **extra)).config.hidden_size == 32
