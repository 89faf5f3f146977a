"""The int8 cache: the error of rounding, and why keys are stored without bias and rotation."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from qianwen.model.caches.int8 import Int8PagedCache, decode, encode
from qianwen.model.caches.paged import PagedCache
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen, key_biases

CONFIG = QwenConfig(
    vocab_size=64, hidden_size=64, intermediate_size=64, num_hidden_layers=3, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=512, initializer_range=0.2,
)  # fmt: skip
KINDS: dict[str, dict[str, Any]] = {
    "plain": {},
    "windows": {"layer_windows": (5, 33, 0)},
    "NTK and LogN": {"train_len": 40, "use_dynamic_ntk": True, "use_logn_attn": True},
    "yarn": {},
    "Qwen3": {"qk_norm": True, "qkv_bias": False, "head_dim": 20},
}


def build(kind: str = "plain", bias: float = 0.0) -> Qwen:
    model = Qwen(replace(CONFIG, **KINDS[kind])).init_weights(1).eval()
    for layer in model.model.layers:
        if CONFIG.qkv_bias and layer.self_attn.k_proj.bias is not None:
            torch.nn.init.normal_(layer.self_attn.k_proj.bias, std=bias)
    return model


def read(model: Qwen, cache: PagedCache, lengths: list[int], chunk: int, ropes: list[RopeState]) -> list[torch.Tensor]:
    """Hidden states of texts of these lengths that share steps, `chunk` tokens of each at a time."""
    texts = [torch.arange(length) * 7 % 64 for length in lengths]
    starts = np.cumsum([0, *(-(-length // cache.block_size) for length in lengths)])
    tables = [list(range(a, b)) for a, b in zip(starts, starts[1:], strict=False)]
    got: list[list[torch.Tensor]] = [[] for _ in lengths]
    for start in range(0, max(lengths), chunk):
        here = [i for i, length in enumerate(lengths) if length > start]
        sizes = [min(chunk, lengths[i] - start) for i in here]
        ends = np.array([start + size for size in sizes])
        blocks = [[tables[i] for i in here]] * cache.num_kinds
        positions = cache.begin(blocks, ends, np.array(sizes), [ropes[i] for i in here])
        ids = torch.cat([texts[i][start : start + size] for i, size in zip(here, sizes, strict=True)])
        hidden = model(ids[None], torch.from_numpy(positions)[None], cache)[0]
        for i, part in zip(here, hidden.split(sizes), strict=True):
            got[i].append(part)
    return [torch.cat(parts) for parts in got]


def apart(found: list[torch.Tensor], expected: list[torch.Tensor]) -> float:
    a, b = torch.cat(found), torch.cat(expected)
    return ((a - b).norm() / b.norm()).item()


@torch.inference_mode()
@pytest.mark.parametrize("chunk", [1, 7, 200])
@pytest.mark.parametrize("bare_keys", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_close_to_those_of_the_float_cache(kind: str, bare_keys: bool, chunk: int) -> None:
    model, lengths = build(kind, bias=0.5), [60, 3, 41, 41]
    ropes = [RopeState()] * 4
    if kind == "NTK and LogN":
        ropes = [RopeState(method="dynamic_ntk", factor=alpha, logn_len=40) for alpha in (7, 1, 3, 3)]
    if kind == "yarn":
        ropes = [RopeState(method="yarn", factor=4, original_len=16), *ropes[:3]]
    expected = read(model, PagedCache(model.config, 20, 16), lengths, chunk, ropes)
    cache = Int8PagedCache(model.config, 20, 16, biases=key_biases(model), bare_keys=bare_keys)
    assert 0 < apart(read(model, cache, lengths, chunk, ropes), expected) < 0.03


@torch.inference_mode()
def test_large_biases_hurt_keys_stored_with_bias() -> None:
    model = build(bias=30.0)
    expected = read(model, PagedCache(model.config, 20, 16), [200], 50, [RopeState()])
    errors = {}
    for bare in (True, False):
        cache = Int8PagedCache(model.config, 20, 16, biases=key_biases(model), bare_keys=bare)
        errors[bare] = apart(read(model, cache, [200], 50, [RopeState()]), expected)
    assert errors[True] < 0.25 * errors[False]


def test_half_the_memory_of_bfloat16() -> None:
    config = QwenConfig(vocab_size=8, hidden_size=256, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    whole = PagedCache(config, 10, 32, dtype=torch.bfloat16)
    assert Int8PagedCache(config, 10, 32).num_bytes < 0.52 * whole.num_bytes


def test_values_are_restored_within_half_a_step() -> None:
    x = torch.randn(5, 3, 64) * torch.logspace(-3, 4, 5)[:, None, None]
    found = decode(*encode(x))
    step = (x.amax(-1) - x.amin(-1)) / 255
    assert ((found - x).abs().amax(-1) <= 0.5 * step + 1.2e-3 * x.abs().amax(-1)).all()


@pytest.mark.parametrize("value", [0.0, 1.5, -240.0, 1e-9, 6e4])
def test_equal_values_are_restored_exactly(value: float) -> None:
    x = torch.full((4, 64), value)
    torch.testing.assert_close(decode(*encode(x)), x, atol=1e-7, rtol=1e-3)


def test_values_beyond_half_precision_stay_finite() -> None:
    x = torch.tensor([[1e6, -1e6, 0.0, 3.0]])
    assert decode(*encode(x)).isfinite().all()


def test_the_bias_is_found_under_an_adapter() -> None:
    model = build(bias=1.0)
    expected = key_biases(model)
    found = key_biases(attach(model, LoraConfig(rank=2)))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert key_biases(build("Qwen3")) == [None, None, None]
