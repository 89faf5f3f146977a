import math
from dataclasses import replace

import pytest

from qianwen.model import PRESETS
from qianwen.model.long_context import (
    LongContext,
    covered_len,
    distinct_ropes,
    layer_windows,
    ntk_alpha,
    rope_state,
    state_end,
)
from qianwen.model.rope_state import RopeState
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


def test_equal_states_have_equal_hashes():
    states = [RopeState(method="linear", factor=2), RopeState(), RopeState(method="linear", factor=2.0)]
    assert states[0] == states[2] and repr(states[0]) == repr(states[2])
    distinct, numbers = distinct_ropes(states)
    assert distinct == (states[0], states[1]) and numbers.tolist() == [0, 1, 0]


QWEN25 = replace(PRESETS["qwen2.5-0.5b"], max_position_embeddings=131072, train_len=32768, scaling_from=32768)
YARN = RopeState(method="yarn", factor=4, original_len=32768)
LLAMA3 = RopeState(method="llama3", factor=8, original_len=8192)


def test_a_scaling_of_the_files_acts_on_texts_that_need_it():
    config = replace(QWEN25, rope_scaling=YARN)
    assert rope_state(config, 32768) == RopeState()
    assert rope_state(config, 32769) == YARN


def test_a_scaling_that_the_model_was_trained_with_acts_on_every_text():
    config = replace(PRESETS["qwen2.5-0.5b"], rope_scaling=LLAMA3)
    for rope in ("auto", "none"):
        assert rope_state(config, 1, LongContext(rope=rope)) == LLAMA3
    with pytest.raises(ConfigError, match="llama3"):
        rope_state(config, 1, LongContext(rope="dynamic_ntk"))


def test_a_dynamic_scaling_of_the_files_depends_on_the_length():
    """Hugging Face's formula: alpha = factor · length / original − (factor − 1)."""
    dynamic = RopeState(method="dynamic_ntk", factor=3, original_len=32768)
    config = replace(PRESETS["qwen2.5-0.5b"], rope_scaling=dynamic, scaling_from=32768)
    assert rope_state(config, 32768) == RopeState()
    assert rope_state(config, 2 * 32768) == RopeState(method="dynamic_ntk", factor=4)
    assert covered_len(config) == 32768
    assert state_end(config, 100) == 32768 and state_end(config, 40000) == 40000


@pytest.mark.parametrize(
    ("extension", "state", "covered"),
    [
        ({"rope": "none"}, RopeState(logn_len=8192), 8192),
        ({"rope": "none", "logn": False}, RopeState(), 8192),
        ({"rope": "auto"}, RopeState(method="dynamic_ntk", factor=7, logn_len=8192), 32768),
        ({"rope": "dynamic_ntk"}, RopeState(method="dynamic_ntk", factor=7, logn_len=8192), 65536),
        ({"rope": "linear", "logn": False}, RopeState(method="linear", factor=4, original_len=8192), 32768),
        ({"rope": "yarn", "factor": 2}, RopeState(method="yarn", factor=2, original_len=8192, logn_len=8192), 16384),
    ],
)
def test_a_request_chooses_its_method(extension, state, covered):
    assert rope_state(PRESETS["7b"], 20000, LongContext(**extension)) == state
    assert covered_len(PRESETS["7b"], LongContext(**extension)) == covered
    short = rope_state(PRESETS["7b"], 8192, LongContext(**extension))
    assert short == RopeState(logn_len=state.logn_len)


@pytest.mark.parametrize("seq_len", [1, 2, 8191, 8192, 8193, 16383, 16384, 16385, 32767, 32768, 32769, 70000])
@pytest.mark.parametrize("rope", ["auto", "none", "dynamic_ntk", "linear", "yarn"])
@pytest.mark.parametrize("config", [PRESETS["7b"], replace(QWEN25, rope_scaling=YARN), PRESETS["72b"]])
def test_a_state_lasts_to_its_end(config, rope, seq_len):
    extension = LongContext(rope=rope)
    state, end = rope_state(config, seq_len, extension), state_end(config, seq_len, extension)
    lengths = [1, 8192, 16384, 20000, 32768, 65536, 131072, 10**6]
    same = [length for length in lengths if length >= seq_len and rope_state(config, length, extension) == state]
    if end == math.inf:
        assert same == [length for length in lengths if length >= seq_len]
    else:
        assert end >= seq_len and end in same and end == max(same)
        assert rope_state(config, int(end) + 1, extension) != state


@pytest.mark.parametrize("fields", [{"rope": "longrope"}, {"on_growth": "never"}, {"factor": 0.5}])
def test_a_choice_is_checked(fields):
    with pytest.raises(ConfigError):
        LongContext(**fields)
