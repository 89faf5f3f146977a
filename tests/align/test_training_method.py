"""What is chosen follows memory, the size of the network and the data, and what was asked for is kept."""

import pytest

from qianwen.align.training_method import choose
from qianwen.model.config import PRESETS
from qianwen.runtime.errors import ConfigError

GB = 1e9
SEVEN, SMALL, HALF = PRESETS["7b"], PRESETS["20m"], PRESETS["qwen2.5-0.5b"]


@pytest.mark.parametrize(("free", "method"), [(80, "lora"), (20, "qlora"), (14, "qlora")])
def test_the_method_follows_memory(free: float, method: str) -> None:
    chosen = choose(SEVEN, [500] * 1000, free * GB)
    assert chosen.method == method and chosen.lr == 3e-4 and chosen.bytes_needed < 0.8 * free * GB


def test_activations_are_recomputed_where_they_do_not_fit() -> None:
    assert not choose(HALF, [500] * 100, 16 * GB).recompute
    assert choose(HALF, [2000] * 100, 6 * GB).recompute


def test_small_networks_are_trained_whole() -> None:
    chosen = choose(SMALL, [500] * 1000, 16 * GB)
    assert chosen.method == "full" and 1e-5 < chosen.lr <= 3e-4
    assert choose(SEVEN, [500], 1000 * GB, method="full").lr == 1e-5


def test_a_base_of_few_bits_gets_an_adapter_over_them() -> None:
    assert choose(SEVEN, [500], 80 * GB, has_few_bits=True).method == "qlora"


def test_the_length_is_that_of_the_data_within_bounds() -> None:
    assert choose(SMALL, [3, 65], 16 * GB).seq_len == 128
    assert choose(SMALL, [9000], 16 * GB).seq_len == 2048
    assert choose(PRESETS["tiny"], [9000], 16 * GB).seq_len == 1024  # what it reads
    assert choose(SMALL, [9000], 16 * GB, seq_len=512).seq_len == 512


def test_a_step_holds_no_more_than_the_data_gives() -> None:
    assert choose(SMALL, [64] * 3, 16 * GB).sequences_per_step == 1
    assert choose(SMALL, [64] * 200, 16 * GB).sequences_per_step == 10
    assert choose(SMALL, [64] * 9000, 16 * GB).sequences_per_step == 16


def test_where_nothing_fits() -> None:
    with pytest.raises(ConfigError, match="qlora with 512 tokens needs about .* but 3.0 GB is free"):
        choose(SEVEN, [500], 3 * GB)
    assert choose(SEVEN, [500], 3 * GB, method="lora").method == "lora"  # asked for: tried all the same
