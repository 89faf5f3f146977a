import numpy as np
import pytest

from qianwen.data.filters.score_calibration import (
    SURE,
    auc,
    equal_error,
    false_positives,
    fit_standard,
    script_of,
    upper_quantile,
)
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


def test_the_median_good_text_is_zero_and_the_ninth_decile_one_in_each_script() -> None:
    group = np.arange(20_000) % 2
    scores = GENERATOR.normal(size=20_000) * np.where(group == 0, 3.0, 0.5) + np.where(group == 0, 7, -2)
    z = fit_standard(scores, np.ones(20_000), group).z(scores, group)
    for number in (0, 1):
        assert np.median(z[group == number]) == pytest.approx(0, abs=0.02)
        assert (z[group == number] > 1).mean() == pytest.approx(0.1, abs=0.002)
    assert np.corrcoef(z[group == 0], scores[group == 0])[0, 1] > 0.999


def test_a_few_extreme_texts_do_not_change_the_scale() -> None:
    """A logistic fit to them was flat: every text seemed to be good."""
    scores, group = GENERATOR.normal(size=10_000), np.zeros(10_000, dtype=np.int64)
    spoiled = np.where(np.arange(10_000) < 100, 1e6, scores)
    plain, changed = (fit_standard(values, np.ones(10_000), group) for values in (scores, spoiled))
    assert changed.lines == pytest.approx(plain.lines, abs=0.1)
    assert np.abs(changed.z(spoiled, group)).max() == SURE


def test_a_large_source_counts_as_much_as_a_small_one() -> None:
    scores = np.concatenate([np.zeros(9_000), np.arange(1, 1001) / 1000])
    weights = np.concatenate([np.full(9_000, 1 / 9_000), np.full(1_000, 1 / 1_000)])
    median, decile = fit_standard(scores, weights, np.zeros(10_000, dtype=np.int64)).lines[0]
    assert median == pytest.approx(0, abs=0.01) and decile == pytest.approx(0.8, abs=0.01)


def test_a_script_without_texts_takes_the_line_of_all_and_equal_scores_are_no_error() -> None:
    scores, group = GENERATOR.normal(size=400), np.zeros(400, dtype=np.int64)
    lines = fit_standard(scores, np.ones(400), group).lines
    assert lines[1] == pytest.approx(lines[0])
    same = fit_standard(np.full(9, 2.0), np.ones(9), np.zeros(9, dtype=np.int64))
    assert same.z(np.array([1.0, 2.0, 3.0]), np.zeros(3, dtype=np.int64)).tolist() == [-SURE, 0, SURE]


def test_between_labels_that_do_not_overlap_the_middle_is_in_the_centre() -> None:
    scores = np.array([5.0, 0.0, 1.0, 3.0])
    assert equal_error(scores, np.array([True, False, False, True]), np.ones(4)) == 2


def test_both_errors_are_equal_at_the_middle() -> None:
    labels = np.arange(20_000) % 5 == 0
    scores = GENERATOR.normal(size=20_000) + 2.0 * labels
    middle = equal_error(scores, labels, np.ones(20_000))
    missed, wrong = (scores[labels] <= middle).mean(), (scores[~labels] > middle).mean()
    assert middle == pytest.approx(1, abs=0.06) and missed == pytest.approx(wrong, abs=0.01)
    heavy = np.where(labels, 7.0, 0.1)  # only weights within a label matter
    assert equal_error(scores, labels, heavy) == pytest.approx(middle)


def test_scripts_are_told_by_their_words() -> None:
    assert script_of(Texts(["plain words", "你好世界", "ok 你好世界", "สวัสดี", "", "한국어 문장"])).tolist() == [
        0,
        1,
        1,
        1,
        0,
        0,
    ]
