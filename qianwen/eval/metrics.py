"""Numbers with their uncertainty: sums over sums, and the percentile bootstrap (Efron 1979) over examples.

    value = Σ amounts / Σ counts          exact_match, acc: amounts 0 or 1, counts 1
                                          bits_per_byte: bits over bytes, document by document

The examples are resampled with replacement; the interval holds the middle 95 % of the resampled values.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from qianwen.eval.task import Share

RESAMPLES = 1000


class Estimate(NamedTuple):
    """A value, its 95 % interval, and the number of examples behind it."""

    value: float
    low: float
    high: float
    num_examples: int


def estimate(shares: Sequence[Share], seed: int = 0) -> Estimate:
    """The ratio of the sums of `shares`. The same shares and seed give the same interval."""
    amounts, counts = np.array(shares, dtype=np.float64).T
    picks = np.random.default_rng(seed).integers(len(shares), size=(RESAMPLES, len(shares)))
    low, high = np.quantile(amounts[picks].sum(axis=1) / counts[picks].sum(axis=1), [0.025, 0.975])
    return Estimate(float(amounts.sum() / counts.sum()), float(low), float(high), len(shares))


def exact_match(answer: str, target: str) -> Share:
    """1 if the two are the same but for outer spacing."""
    return Share(float(answer.strip() == target.strip()))


def acc(logprobs: Sequence[float], right: int) -> Share:
    """1 if the right choice is the most likely one; of equals the first counts as chosen."""
    return Share(float(max(range(len(logprobs)), key=lambda i: logprobs[i]) == right))
