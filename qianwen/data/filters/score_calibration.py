"""Scores of several filters on one scale: small convex fits on texts no filter learned from.

    calibrated    Platt (1999): logit = a · score + b, a ≥ 0 and b for each script; a filter that unseen sources prove
                  wrong has no slope, so nothing to say

Scripts with and without spaces are calibrated apart, because what a score of 3 means differs between them. Texts of the
two labels weigh alike in the fits, so a probability of ½ lies where both mistakes are equally likely.

D texts, G = 2 groups.
"""

from dataclasses import dataclass

import numpy as np

from qianwen.data.filters.linear_classifier import fit_dense
from qianwen.data.text_arrays import ALONE, Texts

SURE = 12.0  # log-odds beyond which a filter is not believed


@dataclass(frozen=True)
class Platt:
    """`lines` [G, 2]: slope and offset of each group."""

    lines: np.ndarray

    def logits(self, scores: np.ndarray, group: np.ndarray) -> np.ndarray:
        """Log-odds [D]."""
        return np.clip(self.lines[group, 0] * scores + self.lines[group, 1], -SURE, SURE)


def script_of(texts: Texts) -> np.ndarray:
    """0: words with spaces; 1: more than half of the words are characters of a script without [D]."""
    alone = np.bincount(texts.word_document[texts.kinds[texts.word_start] == ALONE], minlength=len(texts))
    return (alone > 0.5 * texts.num_words).astype(np.int64)


def fit_platt(scores: np.ndarray, labels: np.ndarray, group: np.ndarray) -> Platt:
    """A line for each group; a group in which one label is missing takes that of all."""
    lines = [_line(scores[chosen], labels[chosen]) for chosen in _groups(labels, group)]
    return Platt(np.array(lines))


def _groups(labels: np.ndarray, group: np.ndarray) -> list[np.ndarray]:
    """Which texts each group's fit looks at."""
    chosen = [group == number for number in (0, 1)]
    return [one if labels[one].any() and not labels[one].all() else np.ones_like(one) for one in chosen]


def _line(scores: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    middle, spread = scores.mean(), max(float(scores.std()), 1e-9)
    slope, offset = fit_dense(((scores - middle) / spread)[:, None], labels)
    return (slope / spread, offset - slope * middle / spread) if slope > 0 else (0.0, 0.0)


# ---- how good a score is -----------------------------------------------------------------------------------------


def auc(scores: np.ndarray, labels: np.ndarray) -> float:
    """The chance that a text of label True scores above one of label False; equal scores count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    yes = int(labels.sum())
    return float((ranks[labels].sum() - yes * (yes + 1) / 2) / max(yes * (len(labels) - yes), 1))


def false_positives(scores: np.ndarray, labels: np.ndarray, recall: float) -> float:
    """The share of label False that lies at or above the score which that share of label True reaches."""
    ordered = np.sort(scores[labels])[::-1]
    least = ordered[min(int(np.ceil(recall * len(ordered))), len(ordered)) - 1]
    return float((scores[~labels] >= least).mean())
