"""Known p-values, and the error rate of the tests on models that are equally good."""

import itertools
import math

import numpy as np
import pytest

from qianwen.eval.metrics import Share
from qianwen.eval.paired_tests import Paired, holm, mcnemar, paired_interval, sign_permutation


def paired(first: list[float], second: list[float], clusters: list[str] | None = None) -> Paired:
    names = clusters or [str(i) for i in range(len(first))]
    return Paired.of([Share(a) for a in first], [Share(b) for b in second], names)


@pytest.mark.parametrize(
    ("only_first", "only_second", "p"),
    [
        (0, 0, 1.0), (1, 0, 1.0), (5, 5, 1.0), (0, 5, 0.0625), (0, 6, 0.03125), (1, 9, 22 / 1024), (9, 1, 22 / 1024),
        (2, 10, 2 * 79 / 4096), (0, 1000, 2.0**-999),
    ],
)  # fmt: skip
def test_mcnemar_is_the_exact_binomial_test(only_first: int, only_second: int, p: float) -> None:
    assert mcnemar(only_first, only_second) == pytest.approx(p, rel=1e-12)


@pytest.mark.parametrize(
    ("p_values", "corrected"),
    [
        ([], []),
        ([0.2], [0.2]),
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.01, 0.02, 0.03, 0.04], [0.04, 0.06, 0.06, 0.06]),
        ([0.9, 0.8, 0.001], [1.0, 1.0, 0.003]),
        ([0.5, 0.5], [1.0, 1.0]),
    ],
)
def test_holm(p_values: list[float], corrected: list[float]) -> None:
    assert holm(p_values) == pytest.approx(corrected)


def test_few_pairs_are_exchanged_in_every_way() -> None:
    first, second = [1.0, 2.0, 3.0, 4.0], [2.0, 4.5, 3.5, 3.0]
    steps = [b - a for a, b in zip(first, second, strict=True)]
    sums = [
        abs(sum(s * d for s, d in zip(signs, steps, strict=True))) for signs in itertools.product((1, -1), repeat=4)
    ]
    expected = sum(each >= abs(sum(steps)) - 1e-9 for each in sums) / 16
    assert sign_permutation(paired(first, second)) == expected
    assert sign_permutation(paired(second, first)) == expected


def test_equal_models_have_p_1_and_an_empty_interval() -> None:
    same = paired([1.0, 0.0, 0.5], [1.0, 0.0, 0.5])
    assert sign_permutation(same) == 1.0 and same.difference == 0 and paired_interval(same) == (0.0, 0.0)


def test_permutation_of_right_and_wrong_agrees_with_mcnemar() -> None:
    first, second = [1.0] * 8 + [0.0] * 25 + [1.0] * 50, [0.0] * 8 + [1.0] * 25 + [1.0] * 50
    assert sign_permutation(paired(first, second)) == pytest.approx(mcnemar(8, 25), abs=0.004)


def test_examples_of_a_cluster_are_one_piece_of_evidence() -> None:
    first, second = [0.0] * 12, [1.0] * 12
    alone, together = paired(first, second), paired(first, second, ["a"] * 6 + ["b"] * 6)
    assert sign_permutation(alone) == 2 / 2**12 and sign_permutation(together) == 0.5


def test_counts_may_differ_as_for_bytes_per_token() -> None:
    first = [Share(100, 20), Share(100, 30), Share(100, 25)]
    second = [Share(100, 10), Share(100, 10), Share(100, 10)]
    pairs = Paired.of(first, second, ["0", "1", "2"])
    assert pairs.values == (4.0, 10.0)
    assert sign_permutation(pairs) == 2 / 8
    low, high = paired_interval(pairs)
    assert low <= 6 <= high


def test_a_true_null_is_rejected_in_at_most_one_of_twenty_cases() -> None:
    random, rejected, covered, runs = np.random.default_rng(0), 0, 0, 60
    for _ in range(runs):
        first, second = random.normal(size=(2, 40))
        pairs = paired(first.tolist(), second.tolist())
        rejected += sign_permutation(pairs) < 0.05
        low, high = paired_interval(pairs)
        covered += low <= 0 <= high
    assert rejected <= 0.05 * runs + 3 * math.sqrt(0.05 * 0.95 * runs)
    assert covered >= 0.85 * runs
