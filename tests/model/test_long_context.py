import math

import pytest
import torch

from qianwen.model import PRESETS
from qianwen.model.long_context import layer_windows, logn_scale, ntk_alpha, ntk_base, stretch_factor
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
def test_stretched_bases(alpha, base):
    assert ntk_base(10000.0, alpha, 128) == pytest.approx(base, rel=1e-11)


def test_the_slowest_frequency_is_alpha_times_slower():
    assert ntk_base(1e4, 7, 128) ** (126 / 128) == pytest.approx(7 * 1e4 ** (126 / 128))


@pytest.mark.parametrize(
    ("length", "train_len", "scale"), [(4096, 2048, 1.090909), (8192, 2048, 1.181818), (32768, 8192, 1.153846)]
)
def test_logn_of_the_last_token(length, train_len, scale):
    scales = logn_scale(torch.arange(length), train_len)
    assert scales[-1].item() == pytest.approx(scale, abs=1e-6)
    assert (scales[:train_len] == 1).all() and (scales[train_len:] > 1).all()


def test_only_models_that_use_ntk_stretch():
    assert stretch_factor(PRESETS["7b"], 10000) == 3
    assert stretch_factor(PRESETS["72b"], 100000) == 1


def test_windows_grow_with_the_layers():
    assert layer_windows(6, [4, 8, 0]) == (4, 4, 8, 8, 0, 0)
    assert layer_windows(5, [4, 0]) == (4, 4, 4, 0, 0)
    with pytest.raises(ConfigError):
        layer_windows(2, [1, 2, 3])
    with pytest.raises(ConfigError):
        layer_windows(2, [])
