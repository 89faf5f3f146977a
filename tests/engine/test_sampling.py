import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.engine.sampling import Distribution, Sampler, token_logprob
from qianwen.engine.sampling_params import SamplingParams


def reference(scores: np.ndarray, params: SamplingParams) -> np.ndarray:
    """The reference: the same filters over the fully sorted row."""
    weights = np.exp((scores.astype(np.float64) - scores.max()) / params.temperature)
    order = np.argsort(-weights, kind="stable")
    keep = np.zeros(len(scores), bool)
    keep[order[: params.top_k or len(scores)]] = True
    probs = np.where(keep, weights, 0) / weights[keep].sum()
    if params.top_p < 1:
        before = np.cumsum(probs[order]) - probs[order]
        keep[order[before >= params.top_p]] = False
    keep &= weights >= params.min_p
    probs = np.where(keep, weights, 0)
    return probs / probs.sum()


FILTERS = st.fixed_dictionaries(
    {
        "temperature": st.sampled_from([0.1, 0.7, 1.0, 3.0, 50.0]),
        "top_k": st.sampled_from([0, 1, 2, 7, 500]),
        "top_p": st.sampled_from([0.05, 0.5, 0.9, 0.999, 1.0]),
        "min_p": st.sampled_from([0.0, 1e-9, 0.01, 0.3, 1.0]),
    }
)


@settings(max_examples=120)
@given(FILTERS, st.integers(0, 2**32 - 1), st.sampled_from([0.5, 3.0, 20.0]))
def test_the_distribution_is_that_of_a_full_sort(filters, seed, spread):
    random = np.random.default_rng(seed)
    scores = (random.standard_normal(300) * spread).astype(np.float32)
    scores[random.integers(0, 300, 20)] = -np.inf
    params = SamplingParams(**filters)
    want = reference(scores, params)
    distribution = Distribution(scores, params)
    got = np.array([distribution.prob(token) for token in range(300)])
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-7)
    grid = (np.arange(100) + 0.5) / 100
    drawn = np.bincount([distribution.draw(u) for u in grid], minlength=300) / 100
    assert not drawn[want == 0].any()
    np.testing.assert_allclose(drawn, want, atol=2.1 / 100)  # a token is one interval, or two at the margin


def test_a_draw_beyond_the_margin_is_found():
    scores = np.full(1000, -20.0, np.float32)
    scores[5] = 0.0
    distribution = Distribution(scores, SamplingParams())
    assert distribution.ids.tolist() == [5]
    assert distribution.draw(0.5) == 5
    assert distribution.draw(1 - 1e-9) != 5
    assert distribution.prob(7) == pytest.approx(np.exp(-20), rel=1e-3)


def test_draws_follow_the_distribution():
    random = np.random.default_rng(0)
    scores = random.standard_normal(50).astype(np.float32)
    params = SamplingParams(temperature=0.8, top_k=20, top_p=0.9, seed=1)
    sampler = Sampler(params, [1])
    draws = np.bincount([sampler.choose(scores) for _ in range(20000)], minlength=50) / 20000
    np.testing.assert_allclose(draws, reference(scores, params), atol=0.012)


def test_penalties_and_bias():
    scores = np.array([2.0, -2.0, 1.0, 1.0, 0.0], np.float32)
    sampler = Sampler(SamplingParams(repetition_penalty=2.0), [0, 1])
    np.testing.assert_allclose(sampler.adjust(scores), [1.0, -4.0, 1.0, 1.0, 0.0])
    sampler = Sampler(SamplingParams(presence_penalty=0.5, frequency_penalty=0.25, logit_bias={4: 3.0}), [0])
    for token in (2, 2, 3):
        sampler.accept(token)
    np.testing.assert_allclose(sampler.adjust(scores), [2.0, -2.0, 0.0, 0.25, 3.0])
    assert scores[4] == 0.0  # the row itself stays


@given(st.lists(st.integers(0, 40), max_size=30), st.lists(st.integers(0, 40), max_size=100))
def test_seen_tokens_count(prompt, output):
    sampler = Sampler(SamplingParams(frequency_penalty=1.0), prompt)
    for token in output:
        sampler.accept(token)
    counts = np.bincount(output, minlength=41) if output else np.zeros(41)
    np.testing.assert_array_equal(sampler.adjust(np.zeros(41, np.float32)), -counts)
    assert set(sampler.seen.ids) == set(prompt) | set(output)


def test_log_probabilities():
    scores = np.random.default_rng(0).standard_normal(400).astype(np.float32) * 3
    want = scores.astype(np.float64) - np.log(np.exp(scores.astype(np.float64)).sum())
    got = token_logprob(scores, 7, 20)
    assert got.logprob == pytest.approx(want[7], abs=1e-6)
    assert [token for token, _ in got.top] == list(np.argsort(-want, kind="stable")[:20])
    np.testing.assert_allclose([logprob for _, logprob in got.top], np.sort(want)[::-1][:20], atol=1e-6)
    peaked = np.full(30, -50.0, np.float32)
    peaked[3] = 0
    assert len(token_logprob(peaked, 3, 5).top) == 5
    assert token_logprob(scores, 7, 0).top == ()
    for row in (scores, peaked, np.zeros(30, np.float32)):  # the last one: of equals the first
        assert token_logprob(row, 7, 1).top == token_logprob(row, 7, 2).top[:1]
