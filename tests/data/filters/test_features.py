"""What the members of an ensemble count."""

import numpy as np
import pytest

from qianwen.data.curate.text_statistics import Batch
from qianwen.data.filters.features import PERSONS, traits

ENCYCLOPEDIA = "The river rises in the northern hills (near the border), crosses three provinces and meets the sea."
ADVERTISEMENT = "YOU have WON! Call now and we send your $500 prize, you pay NOTHING! Visit us @ www.win.example/you=1"
CHINESE = "你还在等什么？立即购买，我们为你节省￥500！马上点击！"
PLAIN_CHINESE = "这条河发源于北方的山地，流经三个省，最后注入大海。"


def of(*texts: str) -> np.ndarray:
    return traits(Batch(list(texts), ["und"] * len(texts), ["text"] * len(texts)))


def test_a_text_has_the_same_traits_in_any_company() -> None:
    texts = [ENCYCLOPEDIA, "", CHINESE, ADVERTISEMENT, "!!!", PLAIN_CHINESE]
    together = of(*texts)
    for number, text in enumerate(texts):
        np.testing.assert_array_equal(of(text)[0], together[number])
    assert np.isfinite(together).all()


@pytest.mark.parametrize(("plain", "loud"), [(ENCYCLOPEDIA, ADVERTISEMENT), (PLAIN_CHINESE, CHINESE)])
def test_advertising_shouts_names_prices_and_says_you(plain: str, loud: str) -> None:
    quiet, noisy = of(plain, loud)
    more = noisy > quiet
    half = len(quiet) // 2
    side = more[half : 2 * half] if loud == CHINESE else more[:half]
    shout, money, spoken_to = 7, 11, 14
    assert side[[shout, money, spoken_to]].all()


def test_scripts_have_columns_of_their_own() -> None:
    spaced, unspaced = of(ENCYCLOPEDIA, CHINESE)
    half = len(spaced) // 2
    assert not spaced[half:].any() and not unspaced[:half].any() and unspaced[-1] == 1


def test_words_for_persons_are_words_in_any_case() -> None:
    first = of("You and I", "YOU AND I", "young and ill")
    np.testing.assert_array_equal(first[0][[14, 15]], first[1][[14, 15]])
    assert (first[0][[14, 15]] > 0).all() and not first[2][[14, 15]].any()
    assert len(PERSONS) == 2


def test_marks_count_by_their_share_of_the_characters() -> None:
    shout, question = 7, 8
    traits_of_text = of("Go on! Why?")[0]
    np.testing.assert_allclose(traits_of_text[[shout, question]], np.log1p(100 / 9), rtol=1e-6)
