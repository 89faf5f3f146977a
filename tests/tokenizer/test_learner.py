import sys
import unicodedata

import pytest
import regex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from qianwen.tokenizer.learner import BLANK, LETTER, LINE_END, NUMBER, OTHER, Learner, available, character_kinds
from qianwen.tokenizer.patterns import QWEN_PATTERN

pytestmark = pytest.mark.skipif(not available(), reason="the learner needs a C++ compiler")

# All that the pattern tells apart, in one to four bytes: blanks, line ends, contractions, marks, signs and numbers.
TRICKY = " \t\n\r\x1c\x85\u2003\u3000'’sStTmMdDlLrRvVeEſKaé好ǅ\u0301-._(½Ⅷ1٣\U0001f600\U00020000\U0001d7ce\U0001d400"


def pieces(text: str) -> list[bytes]:
    """All tokens that merging the text until nothing is left to merge makes."""
    learner = Learner()
    learner.count(text)
    tokens = [bytes([byte]) for byte in range(256)]
    tokens.extend(tokens[left] + tokens[right] for left, right in learner.merges(sys.maxsize))
    return tokens[256:]


@settings(max_examples=300, deadline=None)
@given(text=st.text(st.sampled_from(TRICKY), max_size=40))
@example("I'll 'LL 'ſ 'Re 'x don't 're' 'v '")
@example(" a\n b \r\n\n  c   \n   ")
def test_what_is_merged_whole_are_the_patterns_pieces(text: str) -> None:
    """Merged until nothing is left to merge, every piece is one token, and no token reaches beyond a piece."""
    expected = {piece.encode() for piece in regex.findall(QWEN_PATTERN, text)}
    made = set(pieces(text))
    assert {piece for piece in expected if len(piece) > 1} <= made
    assert all(any(token in piece for piece in expected) for token in made)


def test_the_count_of_a_piece_is_how_often_it_stands() -> None:
    """Of three pairs that never overlap the most frequent merges first, whatever their order in the text."""
    learner = Learner()
    for text in ("--", "ab", "ab ab", "--", "ab", "中"):
        learner.count(text)
    merges = list(learner.merges(3))
    assert merges[0] == (ord("a"), ord("b"))  # four times
    assert merges[1] == (ord("-"), ord("-"))  # twice
    assert merges[2] == (ord(" "), 256)  # once, as 中's two pairs are, with lower ids


def test_runs_of_one_byte_merge_from_the_left() -> None:
    learner = Learner()
    learner.count("aaaaaaa")
    assert list(learner.merges(9)) == [(97, 97), (256, 256), (256, 97), (257, 258)]


def test_every_code_point_has_its_kind() -> None:
    kinds = character_kinds()
    for code in [*range(0x3000), 0x3000, 0x4E00, 0xFFFD, 0x1D7CE, 0x20000, 0x10FFFF]:
        character = chr(code)
        blank = regex.fullmatch(r"\s", character) is not None
        category = unicodedata.category(character)[0]
        if category == "C" and not blank:
            continue  # what Python's tables do not know yet
        expected = (
            LINE_END if character in "\r\n" else BLANK if blank else {"L": LETTER, "N": NUMBER}.get(category, OTHER)
        )
        assert kinds[code] == expected, hex(code)


def test_nothing_counted_is_nothing_to_merge() -> None:
    learner = Learner()
    learner.count("")
    learner.count("1 2 3\n")
    assert list(learner.merges(10)) == []
