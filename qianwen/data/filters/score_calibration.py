"""Calibration of classifiers: raw scores as log-odds on one scale, from texts of sources they were not trained on.

    calibration   Platt (1999): logit = a · score + b with a ≥ 0, one line for each script. A classifier that ranks the
                  texts of unseen sources the wrong way round gets a = 0 and so has no influence
    limit         the score that a given share of the texts exceeds: the quantile of Neyman-Pearson classification,
                  which bounds one kind of error whatever the numbers of texts of the two labels are

Scripts with and without spaces are calibrated separately, because the same score means different things in them. Both
labels have the same total weight, so log-odds of 0 mean that both mistakes are equally likely.

D texts, G = 2 groups.
"""

from dataclasses import dataclass

import numpy as np

from qianwen.data.filters.linear_classifier import fit_dense
from qianwen.data.text_arrays import ALONE, Texts

SURE = 12.0  # log-odds are limited to ± this


@dataclass(frozen=True)
class Platt:
    """`lines` [G, 2]: slope and offset of each group."""

    lines: np.ndarray

    def logits(self, scores: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Log-odds [D]."""
        return np.clip(self.lines[group, 0] * scores + self.lines[group, 1], -SURE, SURE)


def script_of(texts: Texts) -> np.ndarray:
    """1 if more than half of the words are characters of a script without spaces, otherwise 0 [D]."""
    alone = np.bincount(texts.word_document[texts.kinds[texts.word_start] == ALONE], minlength=len(texts))
    return (alone > 0.5 * texts.num_words).astype(np.int64)


def fit_platt(scores: np.ndarray, labels: np.ndarray, group: np.ndarray) -> Platt:
    """A line for each group. A group without texts of one label gets the line of all texts."""
    lines = [_line(scores[chosen], labels[chosen]) for chosen in _groups(labels, group)]
    return Platt(np.array(lines))


def _groups(labels: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """The texts that the line of each group is fitted to."""
    chosen = [group == number for number in (0, 1)]
    return [here if labels[here].any() and not labels[here].all() else np.ones_like(here) for here in chosen]


def _line(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    middle, spread = scores.mean(), max(float(scores.std()), 1e-9)
    slope, offset = fit_dense(((scores - middle) / spread)[:, None], labels)
    return (slope / spread, offset - slope * middle / spread) if slope > 0 else (0.0, 0.0)


def upper_quantile(scores: np.ndarray, weights: np.ndarray, share: float) -> float:
    """The least of the scores such that at most `share` of the total weight is above it."""
    order = np.argsort(scores, kind="stable")
    above = 1 - np.cumsum(weights[order]) / weights.sum()
    return float(scores[order[np.flatnonzero(above <= share + 1e-9)[0]]])


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
