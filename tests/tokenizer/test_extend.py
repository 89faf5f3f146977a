import logging
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.runtime.errors import ConfigError
from qianwen.tokenizer.byte_pairs import byte_pair_merge
from qianwen.tokenizer.extend import extend_vocabulary, read_words
from qianwen.tokenizer.tokenizer import Tokenizer

LINES = ["我是一只猫\t20", "你是一只猫\t10", "他是一只猫\t5", "一只\t200", "一只猫\t100", "夸张的 比喻手法\t20"]


def test_the_releases_example(qwen: Tokenizer) -> None:
    extension = extend_vocabulary(qwen.vocabulary, read_words(LINES))
    tokens = ["一只猫", "只猫", "是一只猫", "我是一只猫", "你是一只猫", "他是一只猫"]
    assert [token.decode() for token in extension.tokens] == tokens
    assert list(extension.tokens.values()) == list(range(151_851, 151_857))
    assert extension.split == {"夸张的 比喻手法": ["夸张的", " 比喻手法"]} and extension.existing == ["一只"]
    grown = Tokenizer(extension.vocabulary)
    assert grown.encode("我是一只猫") == [151_854] and grown.vocab_size == 151_857
    assert grown.special_tokens == qwen.special_tokens


def naive(words: dict[str, int], ranks: dict[bytes, int]) -> list[bytes]:
    """Merges by counting everything again each time."""
    cut = {word: byte_pair_merge(word.encode(), ranks) for word in words}
    made: list[bytes] = []
    while any(len(pieces) > 1 for pieces in cut.values()):
        pairs: Counter = Counter()
        for word, pieces in cut.items():
            for pair in pairwise(pieces):
                pairs[pair] += words[word]

        def priority(pair: tuple[bytes, bytes], pairs: Counter = pairs) -> tuple:
            token = pair[0] + pair[1]
            return -pairs[pair], len(token.decode(errors="replace")), len(token), token.decode(errors="replace"), token

        best = min(pairs, key=priority)
        made.append(best[0] + best[1])
        for pieces in cut.values():
            at = 0
            while at < len(pieces) - 1:
                if (pieces[at], pieces[at + 1]) == best:
                    pieces[at : at + 2] = [best[0] + best[1]]
                at += 1
    return list(dict.fromkeys(made))


@settings(max_examples=60, deadline=None)
@given(words=st.dictionaries(st.text("qzxj猫狗鼠牛虎", min_size=1, max_size=6), st.integers(1, 9), max_size=6))
def test_merges_are_those_of_the_plain_algorithm(small: Tokenizer, words: dict[str, int]) -> None:
    new = {word: count for word, count in words.items() if word.encode() not in small.vocabulary.ranks}
    extension = extend_vocabulary(small.vocabulary, words)
    assert list(extension.tokens) == naive(new, dict(small.vocabulary.ranks))
    assert list(extension.tokens.values()) == list(range(small.vocab_size, small.vocab_size + len(extension.tokens)))
    assert all(word.encode() in extension.vocabulary.ranks for word in words)


def test_lines_of_words(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = ["e\u0301\t2", "é\t3\n", "word", "odd\tmany", "minus\t-4", "zero\t0", "", "  \t7", "spaced\t 6 \n"]
    assert read_words(lines) == {"é": 5, "word": 1, "odd": 1, "minus": 1, "zero": 1, "7": 1, "spaced": 6}


def test_ids_start_where_asked_and_never_on_others(small: Tokenizer) -> None:
    extension = extend_vocabulary(small.vocabulary, {"zzq": 1}, start_id=5000)
    assert min(extension.tokens.values()) == 5000
    with pytest.raises(ConfigError, match=f"in use; set --start-id to {small.vocab_size}"):
        extend_vocabulary(small.vocabulary, {"zzq": 1}, start_id=3)
