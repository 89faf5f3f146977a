"""Overlap of short texts, by hand and by properties."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.align.safety.near_duplicates import LIMIT, largest_overlaps, runs


def test_by_hand():
    assert runs("Abc, de!") == {"abcd", "bcde"} and runs("怎么做？") == {"怎么", "么做"} and runs("ab") == {"ab"}
    assert largest_overlaps(["abcde"], ["xyz", "abcdef"]) == [pytest.approx(2 / 3)]
    assert largest_overlaps(["abcde"], []) == [0.0] == largest_overlaps(["abcde"], ["vwxyz"])


def test_a_changed_word_is_near_and_another_question_is_not():
    prompts = ["How do I open the lock of an old safe at home?", "怎样才能打开家里的旧保险柜？"]
    near = ["how do I open the lock of this old safe at home", "怎样才能打开家里旧保险柜"]
    far = ["How do I open an account at a bank?", "怎样才能学会游泳？"]
    assert min(largest_overlaps(near, prompts)) >= LIMIT > max(largest_overlaps(far, prompts))


@given(st.lists(st.text("abcd 怎么", min_size=1, max_size=12), min_size=1, max_size=5))
def test_equal_texts_overlap_fully_and_order_does_not_count(texts: list[str]):
    assert largest_overlaps(texts, texts) == [1.0] * len(texts)
    assert largest_overlaps(texts, texts[::-1]) == largest_overlaps(texts, texts)
