"""Rope scaling in GGUF: the keys and the tensor of llama.cpp, read as it computes them, and written back."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan, write_gguf
from qianwen.checkpoints.gguf.network import GgufModel, write_model
from qianwen.checkpoints.gguf.rope import LLAMA3_NUMBERS, PAIR_DIVISORS
from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.tokenizer.vocab import Vocabulary

VOCABULARY = Vocabulary({bytes([value]): value for value in range(256)}, {"<|endoftext|>": 256})
LLAMA = QwenConfig(
    vocab_size=260, hidden_size=128, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2,
    max_position_embeddings=4096, qkv_bias=False,
)  # fmt: skip
QWEN2, QWEN3 = replace(LLAMA, qkv_bias=True), replace(LLAMA, qk_norm=True)
YARN = RopeState(method="yarn", factor=4, original_len=1024)
LINEAR = RopeState(method="linear", factor=4, original_len=1024)
UNUSUAL = RopeState(method="llama3", factor=3, original_len=512, low_freq_factor=2, high_freq_factor=7)
LLAMA31 = RopeState(method="llama3", factor=8, original_len=8192)


def write(path: Path, config: QwenConfig, **extra: Any) -> Path:
    entries = {f"{config.architecture}.{name.replace('__', '.')}": value for name, value in extra.items()}
    return write_model(Qwen(config).init_weights(0), VOCABULARY, path, type="F32", extra=entries)


def changed(source: Path, target: Path, metadata: dict[str, Any], tensors: dict[str, Tensor]) -> Path:
    """A copy of a file with other metadata (None: removed) and other tensors."""
    file = GgufFile(source)
    entries = {key: value for key, value in (file.metadata | metadata).items() if value is not None}
    contents = {name: tensor.dequantize() for name, tensor in file.tensors.items()} | tensors
    plans = [TensorPlan(name, "F32", tuple(tensor.shape)) for name, tensor in contents.items()]
    write_gguf(target, entries, plans, contents.values())
    return target


# ---- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        replace(QWEN2, rope_scaling=YARN, scaling_from=1024, train_len=1024),
        replace(QWEN3, rope_scaling=YARN, scaling_from=1024, train_len=1024),
        replace(QWEN3, rope_scaling=YARN),
        replace(LLAMA, rope_scaling=YARN),
        replace(LLAMA, rope_scaling=YARN, scaling_from=1024, train_len=1024),
        replace(LLAMA, rope_scaling=replace(YARN, factor=3)),
        replace(LLAMA, rope_scaling=replace(YARN, attention_factor=1)),
        replace(LLAMA, rope_scaling=replace(YARN, attention_factor=1.234567)),
        replace(LLAMA, rope_scaling=RopeState(method="linear", factor=2.5)),
        replace(QWEN2, rope_scaling=LINEAR, scaling_from=1024, train_len=1024),
        replace(LLAMA, rope_scaling=LLAMA31, rope_theta=5e5),
        replace(LLAMA, rope_scaling=replace(LLAMA31, factor=32), rope_theta=5e5),
        replace(LLAMA, rope_scaling=UNUSUAL),
        replace(LLAMA, rope_scaling=RopeState(method="llama3", factor=8, original_len=100_000), rope_theta=1e4),
        replace(LLAMA, rope_scaling=RopeState(method="llama3", factor=8, original_len=400_000), rope_theta=1e4),
    ],
    ids=lambda config: f"{config.architecture}-{config.rope_scaling.method}-{config.scaling_from}",
)  # fmt: skip
def test_the_config_survives_the_round_trip(tmp_path: Path, config: QwenConfig) -> None:
    model = GgufModel(write(tmp_path / "m.gguf", config))
    assert model.config == config
    ids = torch.arange(250).view(1, -1)
    source = Qwen(config).init_weights(0).eval()
    assert torch.equal(model.load()(ids), source(ids))


def test_plain_models_have_no_scaling_keys(tmp_path: Path) -> None:
    dynamic = RopeState(method="dynamic_ntk", factor=2, original_len=4096)
    for name, config in (("a", LLAMA), ("b", replace(LLAMA, rope_scaling=dynamic, scaling_from=4096))):
        file = GgufFile(write(tmp_path / f"{name}.gguf", config))
        assert not [key for key in file.metadata if "scaling" in key] and PAIR_DIVISORS not in file.tensors


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (replace(QWEN2, rope_scaling=LLAMA31), "llama3 .* architecture qwen2"),
        (replace(LLAMA, rope_scaling=replace(YARN, truncate=False)), "truncate = false"),
        (replace(LLAMA, rope_scaling=replace(YARN, beta_fast=20)), "beta_fast"),
        (replace(LLAMA, rope_scaling=YARN, scaling_from=7), "scaling_from = 7"),
    ],
)
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path, config: QwenConfig, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write(tmp_path / "m.gguf", config)
    assert not list(tmp_path.iterdir())


# ---- files of others --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "extra", "scaling", "scaling_from", "longest"),
    [
        (LLAMA, {"factor": 4.0}, RopeState(method="linear", factor=4), 0, 4096),  # llama.cpp's default type
        (LLAMA, {"type": "linear", "factor": 2.0}, RopeState(method="linear", factor=2), 0, 4096),
        (QWEN3, {"type": "yarn", "factor": 4.0, "original_context_length": 1024}, YARN, 1024, 4096),
        (QWEN2, {"type": "yarn", "factor": 2.0}, RopeState(method="yarn", factor=2, original_len=4096), 4096, 8192),
        (
            *(QWEN2, {"type": "yarn", "factor": 4.0, "original_context_length": 1024, "finetuned": True}),
            *(YARN, 0, 4096),
        ),
        (
            *(QWEN2, {"type": "yarn", "factor": 4.0, "original_context_length": 1024, "yarn_beta_fast": 20.0}),
            *(replace(YARN, beta_fast=20), 1024, 4096),
        ),
        (
            *(QWEN2, {"type": "yarn", "factor": 4.0, "original_context_length": 1024, "yarn_attn_factor": 1.1386294}),
            *(YARN, 1024, 4096),
        ),
        (LLAMA, {"type": "yarn"}, RopeState(), 0, 4096),
        (LLAMA, {"type": "none", "factor": 4.0}, RopeState(), 0, 4096),
        (LLAMA, {"type": "linear", "factor": 0.0}, RopeState(), 0, 4096),
    ],
)
def test_keys_are_read_as_llama_cpp_reads_them(
    tmp_path: Path, config: QwenConfig, extra: dict[str, Any], scaling: RopeState, scaling_from: int, longest: int
) -> None:
    entries = {f"rope__scaling__{name}": value for name, value in extra.items()}
    read = GgufModel(write(tmp_path / "m.gguf", config, **entries)).config
    assert (read.rope_scaling, read.scaling_from, read.max_position_embeddings) == (scaling, scaling_from, longest)


def test_the_older_key_is_read(tmp_path: Path) -> None:
    read = GgufModel(write(tmp_path / "m.gguf", LLAMA, rope__scale_linear=2.0)).config
    assert read.rope_scaling == RopeState(method="linear", factor=2)


def test_an_original_length_that_is_no_count_is_refused(tmp_path: Path) -> None:
    entries = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
    for number, length in enumerate((float("nan"), float("inf"), 0.5)):
        with pytest.raises(ConfigError, match="original_context_length is"):
            path = tmp_path / f"{number}.gguf"
            GgufModel(write(path, QWEN2, rope__scaling__original_context_length=length, **entries))


@pytest.mark.parametrize(("factor", "error"), [("4", CheckpointError), (0.5, ConfigError), (float("nan"), ConfigError)])
def test_a_damaged_factor_is_refused(tmp_path: Path, factor: Any, error: type) -> None:
    with pytest.raises(error, match=r"m\.gguf: .*factor"):
        GgufModel(write(tmp_path / "m.gguf", LLAMA, rope__scaling__factor=factor))


@pytest.mark.parametrize("key", ["attn_factor", "yarn_attn_factor"])
def test_the_temperature_is_relative(tmp_path: Path, key: str) -> None:
    entries = {"type": "yarn", "factor": 4.0, "original_context_length": 1024, key: 1 / (0.1 * math.log(4) + 1)}
    extra = {f"rope__scaling__{name}": value for name, value in entries.items()}
    scaling = GgufModel(write(tmp_path / "m.gguf", QWEN3, **extra)).config.rope_scaling
    assert scaling == replace(YARN, attention_factor=1) and scaling.temperature == 1


def divisors_of_llama_cpp(base: float, head_dim: int, factor: float) -> Tensor:
    """The tensor as llama.cpp's converter computes it: by wavelength, in three cases."""
    values = []
    for pair in range(head_dim // 2):
        wavelength = 2 * math.pi * base ** (2 * pair / head_dim)
        smooth = (8192 / wavelength - 1) / 3
        middle = 1 / ((1 - smooth) / factor + smooth)
        values.append(1.0 if wavelength < 8192 / 4 else factor if wavelength > 8192 else middle)
    return torch.tensor(values)


@pytest.mark.parametrize("factor", [8.0, 32.0, 3.0])
def test_llama3_is_recognised_by_the_tensor_alone(tmp_path: Path, factor: float) -> None:
    config = replace(LLAMA, rope_theta=5e5)
    source = write(tmp_path / "m.gguf", config)
    divisors = divisors_of_llama_cpp(5e5, 64, factor)
    read = GgufModel(changed(source, tmp_path / "x.gguf", {}, {PAIR_DIVISORS: divisors})).config
    assert read == replace(config, rope_scaling=replace(LLAMA31, factor=factor))
    plain = RopeState().frequencies(5e5, 64) / divisors
    torch.testing.assert_close(read.rope_scaling.frequencies(5e5, 64), plain, rtol=1e-6, atol=0)
    ours = GgufFile(write(tmp_path / "y.gguf", read)).tensors[PAIR_DIVISORS].dequantize()
    torch.testing.assert_close(ours, divisors, rtol=1e-6, atol=0)


def test_divisors_of_one_are_no_scaling(tmp_path: Path) -> None:
    source = write(tmp_path / "m.gguf", LLAMA)
    assert GgufModel(changed(source, tmp_path / "x.gguf", {}, {PAIR_DIVISORS: torch.ones(32)})).config == LLAMA
    linear = {"llama.rope.scaling.factor": 2.0}
    read = GgufModel(changed(source, tmp_path / "y.gguf", linear, {PAIR_DIVISORS: torch.ones(32)})).config
    assert read.rope_scaling == RopeState(method="linear", factor=2)


def test_two_scalings_at_once_are_refused(tmp_path: Path) -> None:
    config = replace(LLAMA, rope_theta=5e5, rope_scaling=LLAMA31)
    with pytest.raises(ConfigError, match="'linear' together with rope_freqs.weight"):
        GgufModel(write(tmp_path / "m.gguf", config, rope__scaling__factor=2.0))


def test_the_tensor_has_priority_over_our_numbers(tmp_path: Path) -> None:
    config = replace(LLAMA, rope_theta=5e5, rope_scaling=replace(LLAMA31, original_len=2048))
    source = write(tmp_path / "m.gguf", config)
    tensors = {PAIR_DIVISORS: divisors_of_llama_cpp(5e5, 64, 8)}
    assert GgufModel(changed(source, tmp_path / "x.gguf", {}, tensors)).config.rope_scaling == LLAMA31
    for number, numbers in enumerate((None, np.full(4, 9, np.float32) + np.arange(4, dtype=np.float32), "8 2048 1 4")):
        with pytest.raises(ConfigError, match=r"gguf: rope_freqs.weight .* not those of Llama 3"):
            GgufModel(changed(source, tmp_path / f"{number}.gguf", {LLAMA3_NUMBERS: numbers}, {}))


@pytest.mark.parametrize(
    ("config", "divisors", "error"),
    [
        (LLAMA, torch.rand(32) + 1, ConfigError),
        (LLAMA, torch.full((16,), 8.0), ConfigError),
        (LLAMA, torch.full((32,), float("nan")), ConfigError),
        (LLAMA, torch.full((32,), 0.5), ConfigError),
        (QWEN2, torch.full((32,), 8.0), CheckpointError),
    ],
)
def test_unknown_divisors_are_refused(tmp_path: Path, config: QwenConfig, divisors: Tensor, error: type) -> None:
    source = write(tmp_path / "m.gguf", config)
    with pytest.raises(error):
        GgufModel(changed(source, tmp_path / "x.gguf", {}, {PAIR_DIVISORS: divisors}))
