import argparse
import collections
import sys
import typing
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import regex
import rustbpe
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.runtime.errors import ConfigError, DataError
from qianwen.tokenizer.byte_pairs import byte_pair_merge
from qianwen.tokenizer.learner import available
from qianwen.tokenizer.patterns import QWEN_PATTERN
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import learn_tokens, learn_tokens_with_rustbpe, train_vocabulary
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

BYTES = {bytes([i]): i for i in range(256)}
SMALLEST = 256 + 208


def naive(texts: list[str], num_new: int, ranks: dict[bytes, int], first: int) -> dict[bytes, int]:
    """Count every pair again for every merge; of the most frequent the one of lowest ids."""
    ranks = dict(ranks)
    counts = Counter(piece for text in texts for piece in regex.findall(QWEN_PATTERN, text))
    words = {word: byte_pair_merge(word.encode(), ranks) for word in counts}
    while num_new:
        pairs: Counter = Counter()
        for word, pieces in words.items():
            for pair in pairwise(pieces):
                pairs[pair] += counts[word]
        if not pairs:
            break
        left, right = min(pairs, key=lambda pair: (-pairs[pair], ranks[pair[0]], ranks[pair[1]]))
        if left + right not in ranks:
            ranks[left + right], first, num_new = first, first + 1, num_new - 1
        for word, pieces in words.items():
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == (left, right):
                    pieces[at : at + 2] = [left + right]
                at += 1
            words[word] = pieces
    return ranks


WORDS = st.lists(
    st.sampled_from(["aab", " ab", "abc", "aaaa", " aab", "cab", "12", "好的", " é", "--", "\n\n"]), min_size=1
)
TEXTS = st.lists(WORDS.map("".join), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, num_new=st.integers(1, 12))
def test_from_scratch_is_the_plain_algorithm(texts: list[str], num_new: int) -> None:
    if not any(len(piece) > 1 for text in texts for piece in regex.findall(QWEN_PATTERN, text)):
        return
    learned = train_vocabulary(texts, SMALLEST + num_new)
    assert learned.ranks == naive(texts, len(learned.ranks) - 256, BYTES, 256)
    assert dict(learned.special_tokens) == qwen_special_tokens(len(learned.ranks))


@settings(max_examples=60, deadline=None)
@given(first=TEXTS, then=TEXTS, num_new=st.integers(1, 12))
def test_continuing_is_the_plain_algorithm_over_the_bases_tokens(
    first: list[str], then: list[str], num_new: int
) -> None:
    base = Vocabulary(naive(first, 4, BYTES, 256), qwen_special_tokens(260))
    learned = train_vocabulary(then, base.size + num_new, base)
    assert learned.ranks == naive(then, num_new, dict(base.ranks), base.size)


def test_continuing_from_bytes_is_learning_from_scratch() -> None:
    text = (sys.__doc__ or "") + (str.__doc__ or "") + "我是一只猫 你是一只猫 12 345"
    scratch = train_vocabulary([text], SMALLEST + 150)
    continued = train_vocabulary([text], 256 + 150, Vocabulary(BYTES))
    assert continued.ranks == scratch.ranks


def test_real_text_is_learned_as_its_composed_form_is_by_rustbpe_alone() -> None:
    """Thousands of ties, and the same ids as with the pattern as files spell it."""
    texts = [Path(module.__file__).read_text("utf-8") for module in (argparse, collections, typing)]
    learner = rustbpe.Tokenizer()  # pyrefly: ignore[missing-attribute]
    learner.train_from_iterator((unicodedata.normalize("NFC", t) for t in texts), 256 + 4000, pattern=QWEN_PATTERN)
    expected: dict[bytes, int] = {}
    for token, _ in learner.get_mergeable_ranks():
        expected.setdefault(bytes(token), len(expected))
    assert train_vocabulary(texts, SMALLEST + 4000).ranks == expected


@pytest.mark.skipif(not available(), reason="the learner needs a C++ compiler")
@settings(max_examples=60, deadline=None)
@given(texts=TEXTS, number=st.integers(256, 300))
def test_where_nothing_can_be_compiled_rustbpe_learns_the_same(texts: list[str], number: int) -> None:
    assert learn_tokens(texts, number) == learn_tokens_with_rustbpe(texts, number)


def test_a_base_stays_and_the_text_gets_shorter(small: Tokenizer) -> None:
    texts = ["Zürich übt Überschwänglichkeit, 2024 wie 2025. " * 30]
    learned = train_vocabulary(texts, small.vocab_size + 20, small.vocabulary)
    assert {token: learned.ranks[token] for token in small.vocabulary.ranks} == small.vocabulary.ranks
    new = [rank for token, rank in learned.ranks.items() if token not in small.vocabulary.ranks]
    assert new == list(range(small.vocab_size, small.vocab_size + 20)) and learned.size == small.vocab_size + 20
    assert dict(learned.special_tokens) == small.special_tokens
    assert len(Tokenizer(learned).encode(texts[0])) < len(small.encode(texts[0]))


def test_digits_stay_alone_and_text_is_composed() -> None:
    learned = train_vocabulary(["12345 " * 99 + "e\u0301tude " * 99], SMALLEST + 20)
    assert not any(sum(byte in b"0123456789" for byte in token) and len(token) > 1 for token in learned.ranks)
    assert "étude".encode() in learned.ranks or " étude".encode() in learned.ranks


@pytest.mark.parametrize("base", [None, Vocabulary(BYTES)])
def test_hostile_texts_are_survived(base: Vocabulary | None) -> None:
    texts = [" " * 1_000_001 + "x", "a" * 500_000, "lone \ud800 surrogate", "the cat, the hat"]
    learned = train_vocabulary(texts, SMALLEST + 12, base)
    assert b"aa" in learned.ranks and b"  " in learned.ranks


def test_sizes_that_cannot_be_are_refused(small: Tokenizer) -> None:
    with pytest.raises(ConfigError, match="300 is too small.*464"):
        train_vocabulary(["text"], 300)
    with pytest.raises(ConfigError, match=f"too small.*{small.vocab_size}"):
        train_vocabulary(["text"], small.vocab_size - 1, small.vocabulary)
    with pytest.raises(DataError, match="no text"):
        train_vocabulary([], 1000)


def test_a_text_that_runs_out_of_merges_gives_a_smaller_vocabulary() -> None:
    learned = train_vocabulary(["abab abab"], 2000)
    assert set(learned.ranks) - set(BYTES) == {b"ab", b"abab", b" abab"}
    assert learned.size == len(learned.ranks) + 208
