"""Sampling: scores → tokens, without a loop over the vocabulary in Python.

A row of 150,000 scores is never sorted. The candidates are the tokens whose score is within a margin of the best one,
usually a few hundred. Only they go through the filters; the mass of all other tokens is known exactly from the row's
normaliser. If a filter or a draw reaches beyond the margin, the margin is widened. So the margin saves time but never
changes the result.

    draw:  u ~ U[0, 1) from the request's own generator;  token = first one with  Σ p > u · total mass

Each token uses one uniform number of the request's own generator, so a seeded answer does not depend on the rest of the
batch. NumPy is used because its argmax and compare over one row are several times faster on a CPU than PyTorch's.

Shapes: R rows (one per token to choose), V vocabulary.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence as Rows
from dataclasses import dataclass

import numpy as np

from qianwen.engine.sampling_params import SamplingParams

# Margins below the best score, in nats after temperature. The next one is used only if a filter needs more candidates.
MARGINS = (6.0, 12.0, 24.0, math.inf)


class SeenTokens:
    """Distinct tokens of prompt and answer, and how often each was generated, as arrays that grow."""

    def __init__(self, prompt_ids: Rows[int]) -> None:
        self._ids = np.unique(np.asarray(prompt_ids, dtype=np.int64))
        self._counts = np.zeros(len(self._ids), dtype=np.float32)
        self._slot = {int(token): slot for slot, token in enumerate(self._ids)}
        self.size = len(self._ids)

    def add(self, token: int) -> None:
        """Count a generated token."""
        slot = self._slot.get(token)
        if slot is None:
            slot = self._slot[token] = self.size
            if slot == len(self._ids):
                self._ids = np.resize(self._ids, 2 * slot + 16)
                self._counts = np.resize(self._counts, 2 * slot + 16)
            self._ids[slot], self._counts[slot] = token, 0
            self.size += 1
        self._counts[slot] += 1

    @property
    def ids(self) -> np.ndarray:
        return self._ids[: self.size]

    @property
    def counts(self) -> np.ndarray:
        return self._counts[: self.size]


@dataclass(frozen=True)
class TokenLogprob:
    """Log-probability of the chosen token, and the best tokens with theirs, in the distribution before penalties."""

    token: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


class Sampler:
    """The sampling state of one sequence: its parameters, random generator, seen tokens and grammar state."""

    def __init__(self, params: SamplingParams, prompt_ids: Rows[int], index: int = 0) -> None:
        self.params = params
        self.random = random.Random(None if params.seed is None else f"{params.seed}/{index}")
        penalises = params.repetition_penalty != 1 or params.presence_penalty or params.frequency_penalty
        self.seen = SeenTokens(prompt_ids) if penalises else None
        self.matcher = params.grammar.matcher() if params.grammar else None
        self._bias_ids = np.fromiter(params.logit_bias.keys(), np.int64)
        self._bias = np.fromiter(params.logit_bias.values(), np.float32)

    @property
    def is_finished(self) -> bool:
        """Whether the grammar is complete, so that nothing can follow."""
        return self.matcher is not None and self.matcher.is_finished

    def accept(self, token: int) -> None:
        """Update the state with a chosen token."""
        if self.seen is not None:
            self.seen.add(token)
        if self.matcher is not None:
            self.matcher.accept(token)

    def adjust(self, scores: np.ndarray) -> np.ndarray:
        """A copy of the row with grammar mask, bias and penalties applied."""
        scores, params = scores.copy(), self.params
        if len(self._bias):
            scores[self._bias_ids] += self._bias
        if self.seen is not None:
            ids, counts = self.seen.ids, self.seen.counts
            seen = scores[ids]
            seen = np.where(seen > 0, seen / params.repetition_penalty, seen * params.repetition_penalty)
            seen -= params.frequency_penalty * counts + params.presence_penalty * (counts > 0)
            scores[ids] = seen
        if self.matcher is not None:
            self.matcher.mask(scores)
        return scores

    def choose(self, scores: np.ndarray) -> int:
        """The next token from a row of scores [V]."""
        if self.params.changes_scores:
            scores = self.adjust(scores)
        if self.params.is_greedy:
            return int(scores.argmax())
        return Distribution(scores, self.params).draw(self.random.random())


class Distribution:
    """The distribution that a token is drawn from: the tokens that pass top_k, top_p and min_p.

    `ids` are the candidates in ascending order, and `weights` are their probabilities relative to the best token's.
    `total` is the mass of all tokens that pass. Without filters it includes the tokens outside the margin; a draw that
    falls there computes them.
    """

    def __init__(self, scores: np.ndarray, params: SamplingParams) -> None:
        """`scores` [V] after penalties."""
        self._scores, self._params = scores, params
        self._best = float(scores.max())
        next(margin for margin in MARGINS if self._keep(margin))

    def draw(self, u: float) -> int:
        """The token at the fraction `u` of the total mass: candidates first, then all other tokens."""
        ids, reached, mass = self.ids, self.weights.cumsum(), u * self.total
        if self._is_open and mass >= reached[-1]:
            weights = self._weights_of(self._scores)
            weights[ids] = 0.0
            ids, mass, reached = np.arange(len(weights)), mass - reached[-1], weights.cumsum()
        if mass < reached[-1]:
            return int(ids[np.searchsorted(reached, mass, side="right")])
        return int(ids[np.searchsorted(reached, reached[-1])])  # after a rounding error: the last token with mass

    def prob(self, token: int) -> float:
        """Probability of drawing `token`."""
        if self._is_open:
            return float(self._weights_of(self._scores[token])) / self.total
        at = int(np.searchsorted(self.ids, token))
        return float(self.weights[at]) / self.total if at < len(self.ids) and self.ids[at] == token else 0.0

    def _weights_of(self, scores: np.ndarray) -> np.ndarray:
        return np.exp((scores.astype(np.float64) - self._best) / self._params.temperature)

    def _keep(self, margin: float) -> bool:
        """Apply the filters to the tokens within `margin` of the best; False if a filter needs a wider margin."""
        params, is_all = self._params, margin == math.inf
        ids = np.flatnonzero(self._scores >= self._best - margin * params.temperature)
        weights = self._weights_of(self._scores[ids])
        is_enough = is_all or (params.min_p > 0 and margin >= -math.log(params.min_p))  # min_p drops all outside
        if params.top_k:
            if len(ids) < params.top_k and not (is_all or (is_enough and params.top_p == 1)):
                return False
            ids, weights = _largest(ids, weights, params.top_k)
        is_open = not (is_all or params.top_k)
        total = self._mass() if is_open else weights.sum()
        if params.top_p < 1:
            size = int(np.searchsorted(np.sort(weights)[::-1].cumsum(), params.top_p * total)) + 1
            if size > len(ids) and is_open and not is_enough:
                return False
            ids, weights = _largest(ids, weights, size)
        if params.min_p > 0:
            if not is_enough:
                return False
            passes = weights >= params.min_p
            ids, weights = ids[passes], weights[passes]
        self._is_open = is_open and params.top_p == 1 and params.min_p == 0
        self.ids, self.weights, self.total = ids, weights, float(total if self._is_open else weights.sum())
        return True

    def _mass(self) -> float:
        """Sum of exp(score) over the row, relative to the best token."""
        scaled = (self._scores - np.float32(self._best)) * np.float32(1 / self._params.temperature)
        return float(np.exp(scaled, out=scaled).sum(dtype=np.float64))


def _largest(ids: np.ndarray, weights: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The `size` largest weights with their ids, in unchanged order; of equal weights the first."""
    if size >= len(ids):
        return ids, weights
    cut = np.partition(weights, -size)[-size]
    is_kept = weights > cut
    is_kept[np.flatnonzero(weights == cut)[: size - int(is_kept.sum())]] = True
    return ids[is_kept], weights[is_kept]


def token_logprob(scores: np.ndarray, token: int, num_top: int, token_ids: Rows[int] = ()) -> TokenLogprob:
    """Log-probability of `token`, and of `token_ids` or else of the best tokens, under a row of raw scores [V]."""
    first = int(scores.argmax())
    best = scores[first]
    log_mass = float(best) + math.log(float(np.exp(scores - best).sum(dtype=np.float64)))
    top: tuple[tuple[int, float], ...] = ()
    if token_ids:
        top = tuple((index, float(scores[index]) - log_mass) for index in token_ids)
    elif num_top == 1:  # as for every token of a scored text: nothing to sort
        top = ((first, float(best) - log_mass),)
    elif num_top:
        ids = np.flatnonzero(scores >= best - MARGINS[1])
        if len(ids) < num_top:
            ids = np.argpartition(scores, -num_top)[-num_top:]
        ids = ids[np.argsort(-scores[ids], kind="stable")][:num_top]
        top = tuple((int(index), float(scores[index]) - log_mass) for index in ids)
    return TokenLogprob(token, float(scores[token]) - log_mass, top)
