"""Calibration of classifiers: raw scores on one scale, from good texts of sources they were not trained on.

    standard      z = (score − m) / (d − m), where m is the median of good texts and d their ninth decile. z = 1 means:
                  one good text in ten looks worse. Texts to be dropped play no part, so a few extreme ones (shuffled
                  words, tables) cannot flatten the scale, as they did in a logistic fit (Platt, 1999)
    limit         the score that a given share of good texts exceeds: it bounds the loss of good texts whatever the
                  number of texts of each label (Neyman-Pearson classification)
    middle        the score at which both errors are equal: the share of good texts above it, and the share of low
                  texts at or below it

Every source has the same total weight, so that a large source does not decide. Scripts with and without spaces are
calibrated separately, because the same score means different things in them.

D texts, G = 2 groups.
"""

from dataclasses import dataclass

import numpy as np

from qianwen.data.text_arrays import ALONE, Texts

SURE = 12.0  # z is limited to ± this, so that no member decides alone


@dataclass(frozen=True)
class Standard:
    """`lines` [G, 2]: median and ninth decile of the good texts of each group."""

    lines: np.ndarray

    def z(self, scores: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Standardised scores [D]."""
        median, decile = self.lines[group].T
        return np.clip((scores - median) / np.maximum(decile - median, 1e-9), -SURE, SURE)


def script_of(texts: Texts) -> np.ndarray:
    """1 if more than half of the words are characters of a script without spaces, otherwise 0 [D]."""
    alone = np.bincount(texts.word_document[texts.kinds[texts.word_start] == ALONE], minlength=len(texts))
    return (alone > 0.5 * texts.num_words).astype(np.int64)


def fit_standard(scores: np.ndarray, weights: np.ndarray, group: np.ndarray, spread: float = 0.0) -> Standard:
    """From good texts. A group without any gets the line of all texts. Median and decile are at least `spread` apart:
    good texts that are nearly equal say nothing about the scale."""
    lines = []
    for here in groups(group):
        median, decile = (upper_quantile(scores[here], weights[here], share) for share in (0.5, 0.1))
        lines.append([median, max(decile, median + spread)])
    return Standard(np.array(lines))


def groups(group: np.ndarray) -> list[np.ndarray]:
    """The texts of each group; all texts for a group without any."""
    chosen = [group == number for number in (0, 1)]
    return [here if here.any() else np.ones_like(here) for here in chosen]


def upper_quantile(scores: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The least of the scores such that at most `share` of the total weight is above it."""
    order = np.argsort(scores, kind="stable")
    above = 1 - np.cumsum(weights[order]) / weights.sum()
    return float(scores[order[np.flatnonzero(above <= share + 1e-9)[0]]])


def equal_error(scores: np.ndarray, labels: np.ndarray, weights: np.ndarray) -> float:
    """The score at which both errors are equal: texts of label False above it, and of label True at or below it."""
    order = np.argsort(scores, kind="stable")
    scores, labels, weights = scores[order], labels[order], weights[order]
    missed = np.cumsum(weights * labels) / weights[labels].sum()
    wrong = 1 - np.cumsum(weights * ~labels) / weights[~labels].sum()
    best = int(np.argmin(np.abs(missed - wrong)))
    return float(scores[best] + scores[min(best + 1, len(scores) - 1)]) / 2  # the centre of a gap between the labels


# ---- how good a score is -----------------------------------------------------------------------------------------


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a text of label True scores above a text of label False; equal scores count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    yes = int(labels.sum())
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / max(yes * (len(labels) - yes), 1))


def false_positives(scores: np.ndarray, labels: np.ndarray, recall: float) -> float:
    """The share of texts of label False at or above the score that `recall` of the texts of label True reach."""
    ordered = np.sort(scores[labels])[::-1]
    least = ordered[min(int(np.ceil(recall * len(ordered))), len(ordered)) - 1]
    return float((scores[~labels] >= least).mean())
