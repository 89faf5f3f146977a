import math
from dataclasses import replace

import pytest
import torch

from qianwen.model import PRESETS
from qianwen.model.long_context import (
    RopeState,
    distinct_ropes,
    layer_windows,
    logn_scale,
    ntk_alpha,
    ntk_base,
    rope_state,
)
from qianwen.runtime.errors import ConfigError


@pytest.mark.parametrize(
    ("seq_len", "train_len", "alpha"),
    [
        (1, 2048, 1),
        (2048, 2048, 1),
        (2049, 2048, 3),
        (4096, 2048, 3),
        (4097, 2048, 7),
        (8192, 2048, 7),
        (8193, 2048, 15),
        (16384, 2048, 15),
        (8192, 8192, 1),
        (8193, 8192, 3),
        (16384, 8192, 3),
        (16385, 8192, 7),
        (32768, 8192, 7),
    ],
)
def test_alpha_at_the_edges_of_its_buckets(seq_len, train_len, alpha):
    assert ntk_alpha(seq_len, train_len) == alpha


@pytest.mark.parametrize("seq_len", [1, 100, 2047, 2048, 2049, 3000, 5000, 9999, 30000])
def test_alpha_is_the_published_formula(seq_len):
    assert ntk_alpha(seq_len, 2048) == max(2 ** math.ceil(math.log2(seq_len / 2048) + 1) - 1, 1)


@pytest.mark.parametrize(("alpha", "base"), [(1, 10000.0), (3, 30527.7367488), (7, 72195.8600865)])
def test_ntk_bases(alpha, base):
    assert ntk_base(10000.0, alpha, 128) == pytest.approx(base, rel=1e-11)


def test_the_slowest_frequency_is_alpha_times_slower():
    assert ntk_base(1e4, 7, 128) ** (126 / 128) == pytest.approx(7 * 1e4 ** (126 / 128))


@pytest.mark.parametrize(
    ("length", "train_len", "scale"), [(4096, 2048, 1.090909), (8192, 2048, 1.181818), (32768, 8192, 1.153846)]
)
def test_logn_scale_of_the_last_token(length, train_len, scale):
    scales = logn_scale(torch.arange(length), train_len)
    assert scales[-1].item() == pytest.approx(scale, abs=1e-6)
    assert (scales[:train_len] == 1).all() and (scales[train_len:] > 1).all()


def test_rope_state_follows_the_config():
    assert rope_state(PRESETS["7b"], 10000) == RopeState(method="dynamic_ntk", factor=3, logn_len=8192)
    assert rope_state(PRESETS["7b"], 100) == RopeState(logn_len=8192)
    assert rope_state(PRESETS["72b"], 100000) == RopeState()


def test_windows_grow_with_the_layers():
    assert layer_windows(6, [4, 8, 0]) == (4, 4, 8, 8, 0, 0)
    assert layer_windows(5, [4, 0]) == (4, 4, 4, 0, 0)
    with pytest.raises(ConfigError):
        layer_windows(2, [1, 2, 3])
    with pytest.raises(ConfigError):
        layer_windows(2, [])


def test_linear_divides_every_frequency():
    plain, linear = RopeState(), RopeState(method="linear", factor=4)
    assert torch.equal(plain.frequencies(1e4, 64) / 4, linear.frequencies(1e4, 64))


def test_yarn_keeps_fast_pairs_and_divides_slow_ones():
    plain = RopeState().frequencies(1e6, 128)
    yarn = RopeState(method="yarn", factor=4, original_len=32768)
    share = yarn.frequencies(1e6, 128) / plain
    assert (share[:20] == 1).all() and (share[-15:] == 0.25).all()
    assert (share.diff() <= 0).all()
    assert yarn.temperature == pytest.approx(1.138629436)
    assert replace(yarn, attention_factor=2).temperature == 2
    assert yarn.query_scale(torch.tensor([[0, 7]])).tolist() == [[pytest.approx(1.296477)] * 2]


def test_queries_are_scaled_by_temperature_and_logn_together():
    positions = torch.tensor([[5, 99, 399]])
    yarn = RopeState(method="yarn", factor=4, original_len=100)
    both = replace(yarn, logn_len=100).query_scale(positions)
    assert torch.equal(both, logn_scale(positions, 100) * yarn.temperature**2)
    assert RopeState().query_scale(positions) is None


def test_equal_states_have_equal_hashes():
    states = [RopeState(method="linear", factor=2), RopeState(), RopeState(method="linear", factor=2.0)]
    assert states[0] == states[2] and repr(states[0]) == repr(states[2])
    distinct, numbers = distinct_ropes(states)
    assert distinct == (states[0], states[1]) and numbers.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    "fields",
    [
        {"method": "longrope"},
        {"method": "yarn", "factor": 4},
        {"method": "llama3", "factor": 8},
        {"method": "linear", "factor": 0.5},
        {"method": "linear", "factor": float("nan")},
        {"method": "llama3", "factor": 8, "original_len": 8192, "low_freq_factor": 4},
        {"method": "yarn", "factor": 4, "original_len": 100, "beta_slow": 0},
        {"logn_len": 1},
    ],
)
def test_unusable_states_are_refused(fields):
    with pytest.raises(ConfigError):
        RopeState(**fields)
