"""The mixing law: held-out loss as a function of the weights of the training domains, fitted to small runs.

The mixing law (Ye et al., 2024) for the loss on a held-out domain i of a model trained with weights r:

    L_i(r) = c_i + exp(b_i + Σ_j t_ij r_j^p_i)        the law as published: p = 1, b = 0

    c_i   floor: the loss that no mixture goes below
    p_i   power: below 1, the first percent of a domain lowers the loss more than the fifth. Short runs need this,
          because they read very little of a small domain

For a given floor and power, log(L_i − c_i) is linear in the other parameters. So the fit is a ridge regression for each
(floor, power) of a grid. The pair with the least leave-one-out error is used: each run is predicted from the others.
The proposal follows RegMix (Liu et al., 2024): the law predicts the loss of many random mixtures, and the proposal is
the mean of the best ones. Its error comes from a bootstrap over the runs.

    target      Σ_i importance_i L_i, to be minimised
    bootstrap   laws fitted to runs drawn with replacement; the prediction is their mean, the error their standard
                deviation

Not here: training the runs (`train/ablation.py`). R runs, D domains, H held-out domains, K bootstrap laws.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FLOORS = np.concatenate([[0.0], 1 - np.geomspace(1, 0.02, 24)[1:]])  # c as a share of the lowest loss of a run
POWERS = (1.0, 0.5, 0.25)
RIDGE = 1e-3
CANDIDATES, BEST = 20_000, 100


@dataclass(frozen=True)
class Law:
    """One law for each held-out domain: `floors`, `powers` and `biases` [H], `slopes` [H, D]."""

    floors: np.ndarray
    powers: np.ndarray
    biases: np.ndarray
    slopes: np.ndarray

    def predict(self, weights: np.ndarray) -> np.ndarray:
        """Losses [N, H] of mixtures [N, D]."""
        raised = {power: weights**power for power in np.unique(self.powers)}
        logs = [raised[power] @ slopes for power, slopes in zip(self.powers, self.slopes, strict=True)]
        return self.floors + np.exp(np.minimum(self.biases + np.stack(logs, axis=-1), 20.0))


@dataclass(frozen=True)
class Proposal:
    """The proposed mixture and its errors."""

    weights: dict[str, float]
    spread: dict[str, float]  # standard deviation of the bootstrap laws' own best weights
    loss: float  # predicted target
    error: float  # standard deviation of its prediction


def fit_law(weights: np.ndarray, losses: np.ndarray) -> Law:
    """The law fitted to runs with `weights` [R, D] and `losses` [R, H]."""
    return Law(*map(np.array, zip(*(_fit_domain(weights, loss) for loss in losses.T), strict=True)))


def _fit_domain(weights: np.ndarray, loss: np.ndarray) -> tuple[float, float, float, np.ndarray]:
    """Floor, power, bias and slopes with the least leave-one-out error (in closed form, from the hat matrix)."""
    best: tuple[float, float, float, float, np.ndarray] | None = None
    for power in POWERS:
        raised = weights**power
        middle = raised.mean(axis=0)
        centred = raised - middle
        solve = np.linalg.solve(centred.T @ centred + RIDGE * np.eye(weights.shape[1]), centred.T)
        leverage = np.minimum(np.einsum("rd,dr->r", centred, solve) + 1 / len(loss), 0.99)
        for floor in FLOORS * loss.min():
            logs = np.log(np.maximum(loss - floor, 1e-6))
            slopes = solve @ (logs - logs.mean())
            left_out = logs - (logs - logs.mean() - centred @ slopes) / (1 - leverage)
            error = float(np.square(floor + np.exp(np.minimum(left_out, 20.0)) - loss).mean())
            if best is None or error < best[0]:
                best = error, float(floor), power, float(logs.mean() - middle @ slopes), slopes
    assert best is not None
    return best[1:]


def bootstrap_laws(weights: np.ndarray, losses: np.ndarray, count: int = 100, seed: int = 0) -> list[Law]:
    """Laws fitted to runs drawn with replacement."""
    generator = np.random.default_rng(seed)
    draws = generator.integers(len(weights), size=(count, len(weights)))
    return [fit_law(weights[draw], losses[draw]) for draw in draws]


def predict_target(laws: Sequence[Law], weights: np.ndarray, importance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The target of mixtures [N, D]: its mean over the laws, and its standard deviation, both [N]."""
    targets = np.stack([law.predict(weights) @ importance for law in laws])
    return targets.mean(axis=0), targets.std(axis=0)


def propose(
    names: Sequence[str],
    laws: Sequence[Law],
    importance: np.ndarray,
    *,
    max_weights: np.ndarray | None = None,
    seed: int = 0,
) -> Proposal:
    """The mean of the BEST of CANDIDATES random mixtures. `max_weights` [D] limits the weights of small domains."""
    candidates = draw_mixtures(len(names), CANDIDATES, seed=seed, max_weights=max_weights)
    each = np.stack([law.predict(candidates) @ importance for law in laws])
    own = candidates[np.argpartition(each, BEST, axis=1)[:, :BEST]].mean(axis=1)  # [K, D]
    chosen = candidates[np.argsort(each.mean(axis=0), kind="stable")[:BEST]].mean(axis=0)
    loss, error = predict_target(laws, chosen[None], importance)
    return Proposal(
        dict(zip(names, map(float, chosen), strict=True)),
        dict(zip(names, map(float, own.std(axis=0)), strict=True)),
        float(loss[0]),
        float(error[0]),
    )


def draw_mixtures(num_domains: int, count: int, *, seed: int, max_weights: np.ndarray | None = None) -> np.ndarray:
    """Random mixtures [N, D] of Dirichlet distributions, from nearly a single domain to nearly uniform weights."""
    generator = np.random.default_rng(seed)
    concentration = generator.choice([0.5, 1.0, 2.0, 4.0], size=(count, 1))
    drawn = generator.gamma(np.broadcast_to(concentration, (count, num_domains))) + 1e-9
    drawn /= drawn.sum(axis=1, keepdims=True)
    return drawn if max_weights is None else bounded(drawn, max_weights)


def bounded(weights: np.ndarray, max_weights: np.ndarray) -> np.ndarray:
    """Mixtures with no weight above `max_weights` [D]; the excess is distributed over the other domains in proportion.

    `max_weights` must sum to 1 or more.
    """
    weights = weights.copy()
    for _ in range(len(max_weights)):
        over = weights > max_weights
        weights = np.where(over, max_weights, weights)
        free = np.where(weights < max_weights, weights, 0.0)
        missing = 1 - weights.sum(axis=-1, keepdims=True)
        total = free.sum(axis=-1, keepdims=True)
        weights = weights + np.where(total > 0, free * missing / np.maximum(total, 1e-12), 0.0)
        if not over.any():
            break
    return np.minimum(weights, max_weights) / np.minimum(weights, max_weights).sum(axis=-1, keepdims=True)


def natural(tokens: Mapping[str, int]) -> dict[str, float]:
    """Weights in proportion to the size of each domain."""
    return {name: size / sum(tokens.values()) for name, size in tokens.items()}


def uniform(names: Sequence[str]) -> dict[str, float]:
    """The same weight for every domain."""
    return {name: 1 / len(names) for name in names}


def rank_correlation(first: Sequence[float] | np.ndarray, second: Sequence[float] | np.ndarray) -> float:
    """Spearman's correlation: that of the ranks; equal values get the mean of their ranks."""
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    centred = [rank - rank.mean() for rank in ranks]
    norm = np.sqrt(np.square(centred[0]).sum() * np.square(centred[1]).sum())
    return float((centred[0] * centred[1]).sum() / norm) if norm else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
