"""Short texts that share most of their words or runs of characters are found, by hand and by properties."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.near_duplicates import RUNS_LIMIT, NearDuplicates, largest_overlaps, runs_of, words_of


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
        expected = any(len(mine & other) / len(mine | other) >= 0.6 for other in kept)
        assert seen.add(text) == expected
        kept += [] if expected else [mine]
    assert 1 < len(kept) < 200


@given(st.text())
def test_any_text_is_its_own_duplicate_if_it_has_words(text):
    seen = NearDuplicates()
    assert not seen.add(text) and seen.add(text) == bool(words_of(text))


def test_runs_by_hand():
    assert (
        runs_of("Abc, de!") == {"abcd", "bcde"} and runs_of("怎么做？") == {"怎么", "么做"} and runs_of("ab") == {"ab"}
    )
    assert largest_overlaps(["abcde"], ["xyz", "abcdef"]) == [pytest.approx(2 / 3)]
    assert largest_overlaps(["abcde"], []) == [0.0] == largest_overlaps(["abcde"], ["vwxyz"])


def test_a_changed_word_is_near_and_another_question_is_not():
    prompts = ["How do I open the lock of an old safe at home?", "怎样才能打开家里的旧保险柜？"]
    near = ["how do I open the lock of this old safe at home", "怎样才能打开家里旧保险柜"]
    far = ["How do I open an account at a bank?", "怎样才能学会游泳？"]
    assert min(largest_overlaps(near, prompts)) >= RUNS_LIMIT > max(largest_overlaps(far, prompts))


@given(st.lists(st.text("abcd 怎么", min_size=1, max_size=12), min_size=1, max_size=5))
def test_equal_texts_overlap_fully_and_order_does_not_count(texts: list[str]):
    assert largest_overlaps(texts, texts) == [1.0] * len(texts)
    assert largest_overlaps(texts, texts[::-1]) == largest_overlaps(texts, texts)
