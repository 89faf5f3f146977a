import math

import numpy as np
import pytest

from qianwen.data.filters.ngram_model import BACKOFF, STEP, fit_ngrams
from qianwen.data.text_arrays import Texts

MODEL = fit_ngrams(["the cat sat on the mat", "the cat ate", "猫坐在垫子上"])  # 15 words


def surprise(text: str) -> float:
    return float(MODEL.surprise(Texts([text]))[0])


def test_seen_runs_are_counted_ratios() -> None:
    """A count is kept to 8 %, so a mean of logarithms is right to 0.08."""
    first, second, third = math.log(BACKOFF**2 * 3 / 15), math.log(BACKOFF * 2 / 3), math.log(1 / 2)
    assert surprise("the cat") == pytest.approx(-(first + second) / 2, abs=STEP)
    assert surprise("the cat sat") == pytest.approx(-(first + second + third) / 3, abs=STEP)


def test_what_was_never_seen_backs_off_to_the_end() -> None:
    unseen = -math.log(BACKOFF**2 * 0.5 / 15)
    assert surprise("zebra") == pytest.approx(unseen) and surprise("") == pytest.approx(unseen)
    assert surprise("cat zebra") == pytest.approx((unseen - math.log(BACKOFF**2 * 2 / 15)) / 2, abs=STEP)


def test_edited_order_is_less_surprising_than_any_other() -> None:
    assert surprise("the cat sat on the mat") < surprise("mat the on sat cat the")
    assert surprise("猫坐在垫子上") < surprise("子垫上在坐猫")


def test_a_number_depends_on_its_text_alone() -> None:
    texts = ["the cat", "", "on the mat", "猫坐", "a"]
    together = MODEL.surprise(Texts(texts))
    assert together == pytest.approx(np.array([surprise(text) for text in texts]))
