import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.tokenizer import long_pieces, tokenizer
from qianwen.tokenizer.long_pieces import may_have_long_piece, merge_in_parts
from qianwen.tokenizer.patterns import QWEN_PATTERN
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

RANKS = {bytes([i]): i for i in range(256)} | {
    b"aa": 256,
    b"ab": 257,
    b"ba": 258,
    b"aab": 259,
    b"abaa": 260,
    b"  ": 261,
}
RANKS |= {b"    ": 262, b"        ": 263, b"aaaa": 264, b"bb": 265, b"bbb": 266}


@pytest.fixture
def tiny_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that matters at a hundred thousand characters happens at ten."""
    monkeypatch.setattr(long_pieces, "PART", 8)
    monkeypatch.setattr(long_pieces, "DROPPED", 2)
    monkeypatch.setattr(long_pieces, "PROBE_EVERY", 12)
    monkeypatch.setattr(long_pieces, "PROBE", 4)
    monkeypatch.setattr(tokenizer, "PROBE_EVERY", 12)


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from([b"a", b"b", b"aa", b"aab", b"ab" * 9, b"a" * 30, b"b" * 20, b" " * 17]), min_size=1).map(
        b"".join
    )
)
def test_parts_give_the_tokens_of_the_whole(piece: bytes) -> None:
    whole = Tokenizer(Vocabulary(RANKS), fast=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_pieces, "PART", 8)
        patch.setattr(long_pieces, "DROPPED", 2)
        merge = whole._encoding._encode_single_piece
        assert list(merge_in_parts(piece, merge, whole.token_bytes)) == merge(piece)


@pytest.mark.usefixtures("tiny_parts")
@pytest.mark.parametrize("unit", [" ", "\t", "\n", "\r\n", " \n", "\u3000", "a", "-", "好", "\u0301", "ab", "-\n"])
def test_ids_are_those_of_the_unsplit_text(small: Tokenizer, unit: str) -> None:
    starts = ("", "x", "x-", "-\n", "1 ", "it's ", "\n")
    ends = ("", "x", "\n", "\r\n", " ", "1", "-", "'s", "好", "\nx", "  x")
    for start, end, count in itertools.product(starts, ends, (13, 16, 40, 41)):
        text = start + unit * count + end
        assert small.encode(text) == small._encoding.encode_ordinary(text)


def test_only_hostile_texts_are_taken_for_such() -> None:
    prose = "The quick brown fox, 12 of them. 我是一只猫，你是一只猫。\n    return x\n" * 10_000
    assert not may_have_long_piece(prose, QWEN_PATTERN)
    for piece in (" " * 400_000, "a" * 400_000, "-" * 400_000, "好" * 400_000, "\n" * 400_000, " \n" * 200_000):
        assert may_have_long_piece(prose[:100_003] + piece + prose, QWEN_PATTERN)


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["a", " ", "\t", "\n", "0", "好", "-", "🙂", "ab", "\u0301", "\u0323\u0301", " \n\ta1好"]
)
def test_a_megabyte_of_anything_is_encoded_in_two_seconds(small: Tokenizer, unit: str) -> None:
    text = "x " + unit * (1_000_000 // len(unit.encode())) + "x"
    began = time.process_time()
    ids = small.encode(text)
    assert time.process_time() - began < 2.5
    assert len(ids) < 1_100_000 and not set(ids) & small.special_ids


@pytest.mark.parametrize("text", [" " * 1_000_001, "\t" * 1_000_001 + "x", "x\n" + " " * 1_000_001 + "\n好"])
def test_a_million_blanks_come_back(small: Tokenizer, text: str) -> None:
    assert small.decode(small.encode(text)) == text
    assert small.decode(small.encode_array(text).tolist()) == text
