"""Rope scaling that changes nothing is read as none; GGUF files with an unknown scaling are refused by name."""

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
@pytest.mark.parametrize("scaling", NOTHING, ids=str)
def test_a_folder_that_scales_by_nothing_is_read(field: str, scaling: Any) -> None:
    config = config_from_hf({**HF, field: scaling})
    theta = scaling.get("rope_theta") if scaling else None
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
        ({"rope__scaling__type": "longrope"}, "'longrope'"),
        ({"rope__scaling__type": 3}, "scaling 3"),
        ({"rope__scaling__factor": 0.5}, "factor = 0.5"),
        ({"rope__scaling__factor": 4.0, "rope__scaling__attn_factor": 0.5}, "attn_factor = 0.5"),
        ({"rope__scaling__type": "yarn", "rope__scaling__yarn_ext_factor": 0.5}, "yarn_ext_factor = 0.5"),
        ({"rope__scaling__type": "yarn", "rope__scaling__yarn_log_multiplier": 0.1}, "yarn_log_multiplier = 0.1"),
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
