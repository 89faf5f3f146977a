import numpy as np
import pytest

from qianwen.data.filters.score_calibration import auc, false_positives, fit_platt, script_of, upper_quantile
from qianwen.data.text_arrays import Texts

GENERATOR = np.random.default_rng(0)


def test_auc_by_hand() -> None:
    labels = np.array([True, True, False, False])
    assert auc(np.array([3.0, 2.0, 1.0, 0.0]), labels) == 1
    assert auc(np.array([3.0, 0.0, 1.0, 2.0]), labels) == 0.5
    assert auc(np.zeros(4), labels) == 0.5


def test_false_positives_at_a_recall() -> None:
    labels = np.array([True] * 10 + [False] * 10)
    scores = np.concatenate([np.arange(10, 20), np.arange(2, 12)]).astype(float)  # 10 … 19 against 2 … 11
    assert false_positives(scores, labels, 1.0) == 0.2 and false_positives(scores, labels, 0.9) == 0.1
    assert false_positives(scores, labels, 0.5) == 0


def test_the_upper_quantile_by_hand() -> None:
    scores, alike = np.array([3.0, 1.0, 4.0, 2.0]), np.ones(4)
    assert [upper_quantile(scores, alike, share) for share in (0.0, 0.2, 0.25, 0.5, 0.99)] == [4, 4, 3, 2, 1]
    assert upper_quantile(scores, np.array([1.0, 1.0, 8.0, 1.0]), 0.5) == 4, "the weight is above 3, not the number"
    assert upper_quantile(np.array([7.0]), np.array([0.1]), 0.5) == 7


@pytest.mark.parametrize("share", [0.0, 0.01, 0.1, 0.5])
def test_at_most_that_share_is_above_the_upper_quantile_and_no_lower_score_does_it(share: float) -> None:
    scores = np.round(GENERATOR.normal(size=500), 1)  # with ties
    weights = GENERATOR.random(500)
    limit = upper_quantile(scores, weights, share)
    assert weights[scores > limit].sum() <= share * weights.sum() + 1e-9
    lower = scores[scores < limit]
    assert not len(lower) or weights[scores > lower.max()].sum() > share * weights.sum()


def test_calibration_gives_the_odds_that_made_the_labels_in_each_script() -> None:
    group = np.arange(20_000) % 2
    scores = GENERATOR.normal(size=20_000)
    odds = np.where(group == 0, 2 * scores, 0.5 * scores)  # where scripts differ, so do the lines
    labels = GENERATOR.random(20_000) < 1 / (1 + np.exp(-odds))
    found = fit_platt(scores, labels, group)
    assert found.lines == pytest.approx(np.array([[2, 0], [0.5, 0]]), abs=0.12)
    assert np.corrcoef(found.logits(scores, group), odds)[0, 1] > 0.999


def test_a_filter_that_unseen_texts_prove_wrong_has_nothing_to_say() -> None:
    group = np.arange(2_000) % 2
    scores = GENERATOR.normal(size=2_000)
    found = fit_platt(scores, np.where(group == 0, scores, -scores) > 0, group)
    assert found.lines[0, 0] > 1 and found.lines[1].tolist() == [0, 0]
    assert (found.logits(scores, group)[group == 1] == 0).all()


def test_a_group_without_labels_takes_the_line_of_all() -> None:
    scores = GENERATOR.normal(size=400)
    found = fit_platt(scores, scores > 0, np.zeros(400, dtype=int))
    assert found.lines[1] == pytest.approx(found.lines[0])


def test_scripts_are_told_by_their_words() -> None:
    assert script_of(Texts(["plain words", "你好世界", "ok 你好世界", "สวัสดี", "", "한국어 문장"])).tolist() == [
        0,
        1,
        1,
        1,
        0,
        0,
    ]
