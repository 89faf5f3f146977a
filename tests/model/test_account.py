import dataclasses

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from qianwen.model import PRESETS, Qwen
from qianwen.model.account import (
    cache_bytes,
    decode_flops,
    forward_flops,
    kv_bytes_per_token,
    num_embedding_parameters,
    num_parameters,
    optimizer_bytes,
    training_flops,
    weight_bytes,
)
from qianwen.model.long_context import layer_windows

QWEN3 = dataclasses.replace(PRESETS["tiny"], qkv_bias=False, qk_norm=True, num_key_value_heads=2, head_dim=32)


@pytest.mark.parametrize("config", [*PRESETS.values(), QWEN3], ids=[*PRESETS, "qwen3"])
def test_num_parameters_equals_the_model(config):
    with torch.device("meta"):
        model = Qwen(config)
    assert num_parameters(config) == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "rest"), [("1.8b", 1.214), ("7b", 6.477), ("14b", 12.610), ("72b", 69.797)])
def test_parameters_without_embeddings_are_the_published_ones(name, rest):
    config = PRESETS[name]
    assert (num_parameters(config) - num_embedding_parameters(config)) / 1e9 == pytest.approx(rest, abs=1e-3)


@pytest.mark.parametrize(("name", "kib"), [("1.8b", 192), ("7b", 512), ("14b", 800), ("72b", 2560)])
def test_cache_bytes_are_the_published_ones(name, kib):
    assert kv_bytes_per_token(PRESETS[name]) == kib * 1024


def test_weight_bytes_of_the_7b_are_the_size_of_its_files():
    assert weight_bytes(PRESETS["7b"]) == 15_442_649_088 == optimizer_bytes(PRESETS["7b"]) // 4


def test_flops_equal_those_that_torch_counts():
    """Torch counts all T × T pairs of attention, we count only the T (T + 1) / 2 visible ones."""
    config, seq_len = PRESETS["tiny"], 64
    with torch.device("meta"):
        model = Qwen(config)
        ids = torch.zeros(1, seq_len, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model.logits(model(ids))
    hidden_pairs = 4 * config.hidden_size * config.num_hidden_layers * (seq_len - 1) / 2
    assert forward_flops(config, seq_len) == pytest.approx(counter.get_total_flops() / seq_len - hidden_pairs)
    assert training_flops(config, seq_len) == 3 * forward_flops(config, seq_len)


def test_flops_of_a_prompt_are_those_of_its_tokens_one_by_one():
    config = dataclasses.replace(PRESETS["tiny"], layer_windows=(0, 8, 8, 100))
    one_by_one = sum(decode_flops(config, n) for n in range(1, 41)) / 40
    assert forward_flops(config, 40) == pytest.approx(one_by_one)


def test_a_layer_with_a_window_keeps_no_more_than_it_sees() -> None:
    """At 32K with windows of 2,048, 4,096 and all, in equal thirds: 12,971 tokens a layer instead of 32,768."""
    config = dataclasses.replace(PRESETS["1.8b"], layer_windows=layer_windows(24, [2048, 4096, 0]))
    full = cache_bytes(PRESETS["1.8b"], 32768)
    assert full == 32768 * kv_bytes_per_token(PRESETS["1.8b"])
    assert cache_bytes(config, 32768) / full == pytest.approx(12971 / 32768, abs=1e-4)
    assert cache_bytes(config, 1000) == cache_bytes(PRESETS["1.8b"], 1000)
