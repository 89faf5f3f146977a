"""Ratios, their intervals, and what counts as right."""

import pytest

from qianwen.eval.metrics import acc, estimate, exact_match
from qianwen.eval.task import Share


def test_a_ratio_of_sums_is_not_a_mean_of_ratios() -> None:
    found = estimate([Share(10, 10), Share(0, 90)])
    assert found.value == pytest.approx(0.1) and found.num_examples == 2


def test_the_interval_holds_the_value_and_narrows_with_examples() -> None:
    few, many = (estimate([Share(i % 2) for i in range(count)]) for count in (20, 2000))
    assert few.low < few.value == 0.5 < few.high
    assert many.high - many.low < (few.high - few.low) / 5
    assert few.high - few.low == pytest.approx(4 * 0.5 / 20**0.5, rel=0.25)  # ± 1.96 · σ / √n
    assert estimate([Share(1.0)] * 5) == (1.0, 1.0, 1.0, 5)
    assert estimate([Share(i % 2) for i in range(20)]) == few


def test_exact_match_and_acc() -> None:
    assert exact_match(" 42\n", "42").amount == 1 and exact_match("42.", "42").amount == 0
    assert acc([-3.0, -1.0, -2.0], 1).amount == 1 and acc([-3.0, -1.0], 0).amount == 0
    assert acc([-1.0, -1.0], 1).amount == 0
