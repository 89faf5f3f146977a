"""The learning rate at its corners."""

import pytest

from qianwen.train.schedule import learning_rate


def test_warms_up_to_the_peak_and_falls_to_the_share():
    rates = [learning_rate(step, steps=100, lr=3e-4, warmup_steps=10) for step in range(100)]
    assert rates[0] == pytest.approx(3e-5)
    assert rates[9] == 3e-4 == max(rates)
    assert rates[54] == pytest.approx(3e-4 * 0.55)  # halfway down
    assert rates[99] == pytest.approx(3e-5)
    assert all(a < b for a, b in zip(rates[:9], rates[1:10], strict=True))
    assert all(a > b for a, b in zip(rates[9:-1], rates[10:], strict=True))


def test_constant_stays_at_the_peak():
    rates = [learning_rate(step, steps=20, lr=1.0, warmup_steps=4, shape="constant") for step in range(20)]
    assert rates == [0.25, 0.5, 0.75] + [1.0] * 17


def test_never_leaves_its_range():
    assert learning_rate(0, steps=1, lr=1.0) == pytest.approx(0.1)
    assert learning_rate(500, steps=100, lr=1.0, min_lr_ratio=0.2) == pytest.approx(0.2)
    assert learning_rate(5, steps=3, lr=1.0, warmup_steps=10) == 0.6
