"""Ratios, their intervals, and what counts as right."""

import pytest

from qianwen.eval.metrics import Share, acc, estimate, exact_match, mean_over_groups


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


def test_examples_of_a_cluster_are_drawn_together() -> None:
    shares = [Share(float(passage % 2)) for passage in range(40) for _ in range(5)]
    clusters = [str(passage) for passage in range(40) for _ in range(5)]
    apart, together = estimate(shares), estimate(shares, clusters=clusters)
    assert together.value == apart.value == 0.5 and together.num_examples == 200
    # five equal answers to a passage tell no more than one: the interval is √5 times as wide
    assert together.high - together.low == pytest.approx(5**0.5 * (apart.high - apart.low), rel=0.2)
    assert estimate(shares, clusters=[str(number) for number in range(200)]).value == apart.value


def test_a_mean_over_groups_gives_each_group_the_same_weight() -> None:
    small, large = [Share(1.0)] * 2, [Share(float(i % 2)) for i in range(100)]
    mean = mean_over_groups([small, large])
    assert mean.value == 0.75 and mean.num_examples == 102
    assert mean.high - mean.low == pytest.approx(4 * 0.5 / 100**0.5 / 2, rel=0.25)
    assert mean_over_groups([large])[:1] == estimate(large)[:1]


def test_groups_of_one_example_have_an_interval_too() -> None:
    """52 subjects with a question each tell as much as 52 questions, not everything."""
    single = mean_over_groups([[Share(float(i % 2))] for i in range(52)])
    assert single == estimate([Share(float(i % 2)) for i in range(52)])
    mixed = mean_over_groups([[Share(1.0)], [Share(0.0), Share(1.0), Share(0.0), Share(0.0)]])
    assert mixed.value == pytest.approx((1 + 1 / 4) / 2) and mixed.low < mixed.value < mixed.high
    assert mixed.num_examples == 5
