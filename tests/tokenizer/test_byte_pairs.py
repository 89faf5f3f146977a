import pytest

from qianwen.runtime.errors import CheckpointError
from qianwen.tokenizer.byte_pairs import byte_pair_merge, bytes_to_text, merges, text_to_bytes
from qianwen.tokenizer.tokenizer import Tokenizer

RANKS = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"bc": 257, b"abc": 258, b"cab": 259, b"aa": 260}


def test_every_byte_has_a_printable_character_of_its_own() -> None:
    text = bytes_to_text(bytes(range(256)))
    assert len(set(text)) == 256 and text.isprintable() and not any(char.isspace() for char in text)
    assert text_to_bytes(text) == bytes(range(256))
    assert bytes_to_text(b" hi\n") == "ĠhiĊ"
    with pytest.raises(KeyError):
        text_to_bytes("中")


@pytest.mark.parametrize(
    ("word", "limit", "pieces"),
    [
        (b"abc", float("inf"), [b"abc"]),
        (b"abc", 258, [b"ab", b"c"]),
        (b"bcabc", float("inf"), [b"bc", b"abc"]),  # ab first, then bc, then ab + c
        (b"aaa", float("inf"), [b"aa", b"a"]),  # of equal ranks the leftmost
        (b"", float("inf"), []),
    ],
)
def test_the_lowest_rank_merges_first(word: bytes, limit: float, pieces: list[bytes]) -> None:
    assert byte_pair_merge(word, RANKS, limit) == pieces


def test_merges_follow_from_the_ranks() -> None:
    assert list(merges(RANKS)) == [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"c", b"ab"), (b"a", b"a")]
    with pytest.raises(CheckpointError, match="xyz"):
        list(merges(RANKS | {b"xyz": 261}))


def test_merges_of_a_learned_vocabulary_rebuild_it(small: Tokenizer) -> None:
    ranks = {bytes([i]): small.vocabulary.ranks[bytes([i])] for i in range(256)}
    for left, right in merges(small.vocabulary.ranks):
        assert left in ranks and right in ranks
        ranks[left + right] = len(ranks)
    assert ranks == small.vocabulary.ranks


@pytest.mark.nightly
def test_the_real_vocabulary_has_151387_merges(qwen: Tokenizer) -> None:
    assert sum(1 for _ in merges(qwen.vocabulary.ranks)) == 151_387
