import math
from dataclasses import replace

import pytest
import torch

from qianwen.model.rope_state import RopeState, logn_scale, ntk_base
from qianwen.runtime.errors import ConfigError


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


def test_a_network_trained_with_logn_has_it_from_the_first_token():
    positions = torch.arange(400)[None]
    scale = RopeState(logn_len=100, logn_from_start=True).query_scale(positions)
    assert torch.allclose(scale, (positions + 1).log() / math.log(100))
    assert torch.equal(scale[:, 100:], logn_scale(positions, 100)[:, 100:])


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
