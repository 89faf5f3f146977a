import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.filters.linear_classifier import Linear, fit, fit_dense, grams, minimise, spans
from qianwen.data.text_arrays import Texts

KIND = ["what a lovely day it is", "the garden is full of roses", "今天天气真好", "花园里开满了玫瑰"]
RUDE = ["you rotten scoundrel", "such a rotten day", "你这个混蛋", "真是混蛋的一天"]


def classifier(window: int = 0) -> Linear:
    texts = [f"{text} {end}" for end in ("indeed", "today", "again") for text in KIND + RUDE]
    return fit(texts, [text.startswith(tuple(RUDE)) for text in texts], decay=1e-3, window=window)


def test_it_tells_texts_apart_by_words_characters_and_parts_of_words() -> None:
    scores = classifier().scores(Texts(["ROTTEN apples", "a garden of roses", "大混蛋", "玫瑰花园", "rottenness"]))
    assert (scores > 0).tolist() == [True, False, True, False, True]


def test_a_long_text_is_as_bad_as_its_worst_window() -> None:
    pleasant = "what a lovely day it is and the garden is full of roses " * 40
    text = pleasant + "you rotten scoundrel " + pleasant
    whole, worst = classifier().scores(Texts([text]))[0], classifier(window=4).scores(Texts([text]))[0]
    assert whole < 0 < worst


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab c\n你好é!", max_size=40), min_size=1, max_size=8), st.sampled_from([0, 1, 3]))
def test_a_score_depends_on_its_text_alone(texts: list[str], window: int) -> None:
    weights = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32)
    model = Linear(weights, 0.25, window)
    together = model.scores(Texts(texts))
    alone = np.array([model.scores(Texts([text]))[0] for text in texts])
    assert together == pytest.approx(alone, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(alphabet="ab 你\n", max_size=30), min_size=1, max_size=6), st.integers(1, 5))
def test_windows_divide_every_text_and_lose_nothing(texts: list[str], window: int) -> None:
    arrays = Texts(texts)
    starts, document = spans(arrays, window)
    assert (np.diff(starts) >= 0).all() and starts[0] == 0 and starts[-1] == arrays.first_char[-1]
    assert (
        np.bincount(document, minlength=len(texts)).tolist() == np.maximum(-(-arrays.num_words // window), 1).tolist()
    )
    for one in grams(arrays):
        assert (np.diff(one.place) >= 0).all()


def test_a_text_without_words_scores_the_bias() -> None:
    assert Linear(np.ones(1 << 20, dtype=np.float32), -0.5).scores(Texts(["", "!?"])).tolist() == [-0.5, -0.5]
    assert Linear(np.ones(1 << 20, dtype=np.float32), -0.5, 4).scores(Texts(["", "!?"])).tolist() == [-0.5, -0.5]


def test_the_minimum_of_a_known_function_is_found() -> None:
    curve = np.geomspace(1, 1e3, 20)
    found = minimise(lambda x: (float(0.5 * curve @ (x - 3) ** 2), curve * (x - 3)), np.zeros(20), steps=200)
    assert found == pytest.approx(np.full(20, 3.0), abs=1e-2)


def test_logistic_regression_meets_its_condition_and_both_labels_weigh_alike() -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(2000) < 200  # one in ten
    features = generator.normal(size=(2000, 2)) + labels[:, None] * np.array([2.0, 0.0])
    found = fit_dense(features, labels, decay=0.0)
    odds = features @ found[:-1] + found[-1]
    weight = np.where(labels, 0.5 / 200, 0.5 / 1800)
    slope = weight * (1 / (1 + np.exp(-odds)) - labels)
    assert np.abs(features.T @ slope).max() < 1e-4 and abs(slope.sum()) < 1e-4  # the gradient is zero
    assert found[0] == pytest.approx(2, abs=0.3) and found[-1] == pytest.approx(-2, abs=0.4)  # the odds that made them
