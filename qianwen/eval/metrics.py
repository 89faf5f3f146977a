"""Numbers with their uncertainty: sums over sums, and the percentile bootstrap (Efron 1979) over clusters of examples.

    value = Σ amounts / Σ counts          exact_match, acc: amounts 0 or 1, counts 1
                                          bits_per_byte: bits over bytes, document by document

Clusters are resampled with replacement; the interval has the middle 95 % of the resampled values. Examples of a cluster
(questions about one passage) depend on each other, so they are drawn together. A macro mean (`mean_over_groups`) is the
mean of the values of groups; examples are resampled within each group.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RESAMPLES = 1000


class Share(NamedTuple):
    """An amount out of a count: `Share(1, 1)` is a correct answer, `Share(812.5, 480)` is 812.5 bits for 480 bytes."""

    amount: float
    count: float = 1.0


Shares = Mapping[str, Share]


class Estimate(NamedTuple):
    """A value, its 95 % interval, and the number of examples behind it."""

    value: float
    low: float
    high: float
    num_examples: int


def estimate(shares: Sequence[Share], seed: int = 0, clusters: Sequence[str] = ()) -> Estimate:
    """The ratio of the sums of `shares`. The same shares, clusters and seed give the same interval.

    `clusters` has the name of the cluster of each share; without it each share is its own cluster.
    """
    amounts, counts = np.array(shares, dtype=np.float64).T
    if clusters:
        _, index = np.unique(np.array(clusters), return_inverse=True)
        amounts, counts = np.bincount(index, amounts), np.bincount(index, counts)
    picks = np.random.default_rng(seed).integers(len(amounts), size=(RESAMPLES, len(amounts)))
    low, high = np.quantile(amounts[picks].sum(axis=1) / counts[picks].sum(axis=1), [0.025, 0.975])
    return Estimate(float(amounts.sum() / counts.sum()), float(low), float(high), len(shares))


def mean_over_groups(groups: Sequence[Sequence[Share]], seed: int = 0) -> Estimate:
    """The mean of the values of `groups`, each with the same weight, as C-Eval averages its subjects.

    A group of a single example cannot show how its examples vary. If there is one, the examples of all groups are
    resampled together, which gives a wider interval.
    """
    if min(map(len, groups)) == 1:
        counts = [sum(share.count for share in shares) for shares in groups]
        pairs = zip(groups, counts, strict=True)
        return estimate([Share(share.amount / n, share.count / n) for shares, n in pairs for share in shares], seed)
    random = np.random.default_rng(seed)
    values, resampled = [], np.zeros(RESAMPLES)
    for shares in groups:
        amounts, counts = np.array(shares, dtype=np.float64).T
        picks = random.integers(len(amounts), size=(RESAMPLES, len(amounts)))
        resampled += amounts[picks].sum(axis=1) / counts[picks].sum(axis=1)
        values.append(amounts.sum() / counts.sum())
    low, high = np.quantile(resampled / len(groups), [0.025, 0.975])
    return Estimate(float(np.mean(values)), float(low), float(high), sum(map(len, groups)))


def exact_match(answer: str, target: str) -> Share:
    """1 if the two are the same but for outer spacing."""
    return Share(float(answer.strip() == target.strip()))


def acc(logprobs: Sequence[float], right: int) -> Share:
    """1 if the right choice is the most likely one; of equals the first counts as chosen."""
    return Share(float(max(range(len(logprobs)), key=lambda i: logprobs[i]) == right))
