"""Two models on the same examples: is the difference more than chance? Tests and the interval of paired values.

    mcnemar             right or wrong: of the examples that only one model has right, does either have too many?
    sign_permutation    any metric: exchange the two models at random, example by example, and see how often the
                        difference gets as large as it is
    holm                p-values of several tests, corrected for their number (Holm 1979)
    paired_interval     bootstrap interval of the difference

A value is Σ amounts / Σ counts, as in `metrics.py`. Examples of one cluster depend on each other: they are exchanged
and resampled together.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from qianwen.eval.metrics import RESAMPLES, Share

MAX_EXACT = 12  # clusters that differ, up to which all exchanges are tried
EXCHANGES = 10_000  # random exchanges if there are more
BATCH = 100  # of resamples or exchanges that are computed at the same time


@dataclass(frozen=True)
class Paired:
    """Sums of two models over the same clusters: arrays of shape [clusters]."""

    first_amounts: np.ndarray
    first_counts: np.ndarray
    second_amounts: np.ndarray
    second_counts: np.ndarray

    @classmethod
    def of(cls, first: Sequence[Share], second: Sequence[Share], clusters: Sequence[str]) -> "Paired":
        """From the shares of both models on each example, and the cluster of each example."""
        _, index = np.unique(np.array(clusters), return_inverse=True)
        columns = np.concatenate([np.array(first, dtype=np.float64), np.array(second, dtype=np.float64)], axis=1).T
        return cls(*(np.bincount(index, column) for column in columns))

    @property
    def values(self) -> tuple[float, float]:
        """The value of each model."""
        first = self.first_amounts.sum() / self.first_counts.sum()
        return float(first), float(self.second_amounts.sum() / self.second_counts.sum())

    @property
    def difference(self) -> float:
        """Second minus first."""
        first, second = self.values
        return second - first


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value of McNemar's test (1947), from the examples that only one model has right.

    >>> mcnemar(1, 9)
    0.021484375
    """
    total, least = only_first + only_second, min(only_first, only_second)
    tail = sum(math.comb(total, number) for number in range(least + 1))
    return min(1.0, 2 * tail / 2**total)


def sign_permutation(paired: Paired, seed: int = 0) -> float:
    """The two-sided p-value of exchanging the models in each cluster: exact for few clusters, else from samples."""
    differs = (paired.first_amounts != paired.second_amounts) | (paired.first_counts != paired.second_counts)
    number = int(differs.sum())
    if number <= MAX_EXACT:
        every = np.array(list(itertools.product((1.0, -1.0), repeat=number))).reshape(2**number, number)
        return float(_is_as_large(paired, differs, every).mean())
    random, hits = np.random.default_rng(seed), 0
    for _ in range(EXCHANGES // BATCH):
        signs = random.integers(2, size=(BATCH, number)) * 2.0 - 1
        hits += int(_is_as_large(paired, differs, signs).sum())
    return (hits + 1) / (EXCHANGES + 1)


def _is_as_large(paired: Paired, differs: np.ndarray, signs: np.ndarray) -> np.ndarray:
    """For each row of `signs`: is the difference as large as the measured one, if −1 exchanges the models?"""
    amounts, half_amounts = _mean_and_half(paired.first_amounts, paired.second_amounts)
    counts, half_counts = _mean_and_half(paired.first_counts, paired.second_counts)
    by_amount, by_count = signs @ half_amounts[differs], signs @ half_counts[differs]
    second = (amounts.sum() + by_amount) / (counts.sum() + by_count)
    first = (amounts.sum() - by_amount) / (counts.sum() - by_count)
    return np.abs(second - first) >= abs(paired.difference) * (1 - 1e-9)


def _mean_and_half(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return (first + second) / 2, (second - first) / 2


def holm(p_values: Sequence[float]) -> list[float]:
    """The corrected p-values, in the order given.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected


def paired_interval(paired: Paired, seed: int = 0) -> tuple[float, float]:
    """The middle 95 % of the differences when clusters are resampled with replacement."""
    random, total = np.random.default_rng(seed), len(paired.first_amounts)
    differences = []
    for _ in range(RESAMPLES // BATCH):
        picks = random.integers(total, size=(BATCH, total))
        first = paired.first_amounts[picks].sum(axis=1) / paired.first_counts[picks].sum(axis=1)
        differences.append(paired.second_amounts[picks].sum(axis=1) / paired.second_counts[picks].sum(axis=1) - first)
    low, high = np.quantile(np.concatenate(differences), [0.025, 0.975])
    return float(low), float(high)
