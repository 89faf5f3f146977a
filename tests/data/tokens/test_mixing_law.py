import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.tokens.mixing_law import (
    Law,
    bootstrap_laws,
    bounded,
    draw_mixtures,
    fit_law,
    natural,
    predict_target,
    propose,
    rank_correlation,
)

SLOPES = np.array([[-3.0, 0.5, 0.2], [0.3, -2.0, 0.4], [-0.5, -0.5, 0.6]])
TRUE = Law(np.array([1.0, 2.0, 1.5]), np.ones(3), np.zeros(3), SLOPES)
STEEP = Law(TRUE.floors, np.array([1.0, 0.5, 0.25]), np.full(3, 0.5), SLOPES)
ALIKE = np.full(3, 1 / 3)


def noisy(count: int, noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    weights = draw_mixtures(3, count, seed=seed)
    return weights, TRUE.predict(weights) + np.random.default_rng(seed).normal(0, noise, (count, 3))


@pytest.mark.parametrize("truth", [TRUE, STEEP])
def test_a_law_that_made_the_losses_is_found_again(truth: Law) -> None:
    weights, unseen = draw_mixtures(3, 40, seed=0), draw_mixtures(3, 50, seed=9)
    law = fit_law(weights, truth.predict(weights))
    assert np.abs(law.predict(unseen) - truth.predict(unseen)).max() < 0.03
    assert np.corrcoef(law.predict(unseen)[:, 2], truth.predict(unseen)[:, 2])[0, 1] > 0.999


def test_unseen_mixtures_are_ranked_through_noise_and_the_error_bar_holds_the_truth() -> None:
    laws = bootstrap_laws(*noisy(32, 0.02, seed=1), count=40)
    unseen = draw_mixtures(3, 60, seed=7)
    predicted, error = predict_target(laws, unseen, ALIKE)
    truth = TRUE.predict(unseen) @ ALIKE
    assert rank_correlation(predicted, truth) > 0.95
    assert (np.abs(predicted - truth) < 3 * error + 0.01).mean() > 0.9


def test_the_proposal_is_near_the_best_mixture_there_is() -> None:
    laws = bootstrap_laws(*noisy(40, 0.005, seed=2), count=20)
    found = propose(["a", "b", "c"], laws, ALIKE)
    best = (TRUE.predict(draw_mixtures(3, 20_000, seed=5)) @ ALIKE).min()
    chosen = np.array(list(found.weights.values()))
    assert sum(found.weights.values()) == pytest.approx(1)
    assert TRUE.predict(chosen[None])[0] @ ALIKE < best + 0.03
    assert abs(found.loss - TRUE.predict(chosen[None])[0] @ ALIKE) < 0.03 and found.error < 0.05


def test_what_is_important_gets_more() -> None:
    laws = bootstrap_laws(*noisy(40, 0.005, seed=2), count=10)
    first = propose(["a", "b", "c"], laws, np.array([0.9, 0.05, 0.05])).weights["a"]
    second = propose(["a", "b", "c"], laws, np.array([0.05, 0.9, 0.05])).weights["a"]
    assert first > second + 0.1


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 8), st.integers(0, 1000))
def test_bounds_are_kept_and_mixtures_stay_mixtures(num_domains: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    most = np.minimum(1.0, generator.random(num_domains) + 1.2 / num_domains)
    drawn = draw_mixtures(num_domains, 50, seed=seed)
    kept = bounded(drawn, most)
    assert np.allclose(kept.sum(axis=1), 1) and (kept <= most + 1e-6).all() and (kept >= 0).all()


def test_ranks_of_equal_values_are_shared() -> None:
    assert rank_correlation([1, 2, 2, 3], [10, 20, 20, 30]) == pytest.approx(1)
    assert rank_correlation([1, 2, 3, 4], [4, 3, 2, 1]) == pytest.approx(-1)
    assert rank_correlation([1, 2, 3, 4], [2, 1, 4, 3]) == pytest.approx(0.6)  # 1 − 6 · 4 / (4 · 15)
    assert rank_correlation([1, 1, 1], [1, 2, 3]) == 0


def test_natural_weights_are_sizes() -> None:
    assert natural({"a": 300, "b": 100}) == {"a": 0.75, "b": 0.25}
