import random

from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.near_duplicates import NearDuplicates, words_of


def test_the_same_question_in_slightly_other_words_is_a_near_duplicate():
    seen = NearDuplicates()
    assert not seen.add("How many apples are left in the red box?")
    assert seen.add("how many apples are left in the box?")
    assert not seen.add("How many pears did you buy at the market?")
    assert (
        not seen.add("杭州今天的天气怎么样？") and seen.add("杭州今天天气怎么样") and not seen.add("杭州的房价是多少？")
    )


def test_the_index_finds_what_comparing_all_pairs_finds():
    draw, words = random.Random(0), "abcdefgh"
    texts = [" ".join(draw.choices(words, k=draw.randint(1, 6))) for _ in range(300)]
    seen, kept = NearDuplicates(0.6), []
    for text in texts:
        mine = words_of(text)
        expected = any(len(mine & other) >= 0.6 * len(mine | other) for other in kept)
        assert seen.add(text) == expected
        kept += [] if expected else [mine]
    assert 1 < len(kept) < 200


@given(st.text())
def test_any_text_is_its_own_duplicate_if_it_has_words(text):
    seen = NearDuplicates()
    assert not seen.add(text) and seen.add(text) == bool(words_of(text))
