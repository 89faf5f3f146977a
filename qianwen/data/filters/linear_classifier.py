"""Logistic regression on hashed n-grams of text.

    n-grams     one word, two words, three where each character is a word, and four characters inside a word or at its
                borders; in any language, ignoring case and character width (`text_arrays.py`)
    hashing     each n-gram falls into one of 2^BITS bins; only a weight for each bin is stored
    score       Σ weights of a text's n-grams ÷ √(their number) + bias: log-odds, which grow with the evidence
    window      if set, the score of a text is the highest score of its windows of `window` words

    loss(w) = mean log(1 + exp(−y f(x))) + λ/2 |w|²      convex, minimised by L-BFGS

N-grams of characters recognise disguised spellings (`sh1tty`); words do not. Not here: probabilities
(`score_calibration.py`). D texts, N n-grams, S spans (windows or whole texts).
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qianwen.data.text_arrays import ALONE, LETTER, Texts, by_size, mixed, rolling

BITS = 20
STEPS = 60  # of a fit; more steps change the weights but not the ranking of texts
CHARACTERS = 4  # of an n-gram of characters


class Grams(NamedTuple):
    """All n-grams of one kind: their bins [N], and the position of the first character of each [N], ascending."""

    bins: np.ndarray
    place: np.ndarray


@dataclass(frozen=True)
class Linear:
    """A classifier with `weights` [2^BITS] float32. A positive score means label True."""

    weights: np.ndarray
    bias: float
    window: int = 0  # words; 0: the whole text has one score

    def scores(self, texts: Texts, ngrams: list[Grams] | None = None) -> np.ndarray:
        """Log-odds of each text [D]; the bias for a text without words. `ngrams`: of the texts, if known already."""
        ngrams = ngrams or grams(texts)
        starts, document = spans(texts, self.window)
        summed, count = np.zeros(len(document)), np.zeros(len(document))
        for size in ngrams:
            cut = np.searchsorted(size.place, starts)
            sums = np.concatenate([[0.0], np.cumsum(self.weights.take(size.bins), dtype=np.float64)])
            summed += sums[cut[1:]] - sums[cut[:-1]]
            count += np.diff(cut)
        each = summed / np.sqrt(np.maximum(count, 1)) + self.bias
        if not self.window:
            return each
        worst = np.full(len(texts), -np.inf)
        np.maximum.at(worst, document, np.where(count > 0, each, self.bias))
        return worst


def grams(texts: Texts) -> list[Grams]:
    """All n-grams of the texts, one entry for each kind."""
    start = texts.word_start
    kinds = texts.kinds[start]
    ngrams = [Grams(_binned(mixed(texts.word_hash)), start)]
    for size in (2, 3):
        begin = np.flatnonzero(np.arange(size, len(start) + size) <= texts.word_limit)
        if size == 3:  # three words add little to two; three characters do
            begin = begin[kinds[begin] == ALONE]
        ngrams.append(Grams(_binned(mixed(texts.runs(begin, begin + size))), start[begin]))
    hashes = rolling(texts, CHARACTERS)
    inside = texts.kinds == LETTER
    for before in range(1, CHARACTERS - 1):  # n-grams that would extend into the next text
        inside[np.maximum(texts.first_char[1:] - 1 - before, 0)] = False
    begin = np.flatnonzero(inside[: len(hashes)])
    ngrams.append(Grams(_binned(mixed(hashes[begin])), begin))
    return ngrams


def spans(texts: Texts, window: int) -> tuple[np.ndarray, np.ndarray]:
    """First character of each span, and the end of the last [S + 1]; the text that each span belongs to [S]."""
    if not window:
        return texts.first_char, np.arange(len(texts))
    pieces = np.maximum(-(-texts.num_words // window), 1)
    document = np.repeat(np.arange(len(texts)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    word = np.minimum(texts.first_word[document] + number * window, max(len(texts.word_start) - 1, 0))
    begin = texts.word_start[word] if len(texts.word_start) else np.zeros(len(word), dtype=np.int64)
    begin = np.where(number == 0, texts.first_char[document], begin)
    return np.append(begin, texts.first_char[-1]), document


def _binned(hashes: np.ndarray) -> np.ndarray:
    return (hashes >> np.uint64(64 - BITS)).astype(np.int64)


# ---- fitting -----------------------------------------------------------------------------------------------------


def fit(texts: Iterable[str], labels: Sequence[bool] | np.ndarray, *, decay: float = 3e-4, window: int = 0) -> Linear:
    """Fit a classifier. Both labels have the same total weight, whatever the number of texts of each."""
    parts, number = [], 0
    for batch in by_size(texts):
        arrays = Texts(batch)
        for kind in grams(arrays):
            document = np.searchsorted(arrays.first_char, kind.place, side="right") - 1
            parts.append((kind.bins.astype(np.int32), (document + number).astype(np.int32)))
        number += len(batch)
    bins, document = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    scale = 1 / np.sqrt(np.maximum(np.bincount(document, minlength=number), 1))
    is_used = np.bincount(bins, minlength=1 << BITS) > 1  # a bin used once teaches nothing about other texts
    document, bins = document[is_used[bins]], (np.cumsum(is_used) - 1)[bins[is_used[bins]]]
    used = np.flatnonzero(is_used)
    sign = np.where(np.asarray(labels), 1.0, -1.0)
    weight = np.where(sign > 0, 0.5 / max((sign > 0).sum(), 1), 0.5 / max((sign < 0).sum(), 1))

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        weights, bias = point[:-1], point[-1]
        margin = sign * (scale * np.bincount(document, weights=weights[bins], minlength=number) + bias)
        slope = -weight * sign * _sigmoid(-margin)
        gradient = np.bincount(bins, weights=(slope * scale)[document], minlength=len(used)) + decay * weights
        value = float((weight * np.logaddexp(0, -margin)).sum() + 0.5 * decay * weights @ weights)
        return value, np.append(gradient, slope.sum())

    point = minimise(loss, np.zeros(len(used) + 1), steps=STEPS)
    weights = np.zeros(1 << BITS, dtype=np.float32)
    weights[used] = point[:-1]
    return Linear(weights, float(point[-1]), window)


def fit_dense(features: np.ndarray, labels: np.ndarray, *, decay: float = 1e-4) -> np.ndarray:
    """Logistic regression on dense features [D, F]: F weights and a bias. Both labels have the same total weight."""
    sign = np.where(labels, 1.0, -1.0)
    weight = np.where(sign > 0, 0.5 / max((sign > 0).sum(), 1), 0.5 / max((sign < 0).sum(), 1))

    def loss(point: np.ndarray) -> tuple[float, np.ndarray]:
        margin = sign * (features @ point[:-1] + point[-1])
        slope = -weight * sign * _sigmoid(-margin)
        value = float((weight * np.logaddexp(0, -margin)).sum() + 0.5 * decay * point[:-1] @ point[:-1])
        return value, np.append(features.T @ slope + decay * point[:-1], slope.sum())

    return minimise(loss, np.zeros(features.shape[1] + 1))


def minimise(
    function: Callable[[np.ndarray], tuple[float, np.ndarray]], start: np.ndarray, *, steps: int = 100, memory: int = 8
) -> np.ndarray:
    """Minimise a smooth convex function that returns its value and gradient: L-BFGS (Nocedal, 1980)."""
    point, (value, gradient) = start, function(start)
    past: list[tuple[np.ndarray, np.ndarray]] = []
    for _ in range(steps):
        direction = -_times_inverse_hessian(gradient, past)
        slope, length = float(direction @ gradient), 1.0
        while True:
            moved = point + length * direction
            new_value, new_gradient = function(moved)
            if new_value <= value + 1e-4 * length * slope or length < 1e-10:
                break
            length *= 0.5
        step, change = moved - point, new_gradient - gradient
        gained = value - new_value
        point, value, gradient = moved, new_value, new_gradient
        if step @ change > 1e-12 * (change @ change):
            past = [*past[-memory + 1 :], (step, change)]
        if gained <= 1e-7 * abs(value) or not np.abs(gradient).max() > 1e-9:
            break
    return point


def _times_inverse_hessian(gradient: np.ndarray, past: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """The two-loop recursion: H⁻¹ · gradient from the last steps and changes of the gradient, without a matrix."""
    product = gradient.copy()
    shares = []
    for step, change in reversed(past):
        share = (step @ product) / (step @ change)
        product -= share * change
        shares.append(share)
    if past:
        step, change = past[-1]
        product *= (step @ change) / (change @ change)
    for (step, change), share in zip(past, reversed(shares), strict=True):
        product += (share - (change @ product) / (step @ change)) * step
    return product


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -values))
