import re
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.tokenizer import normal
from qianwen.tokenizer.normal import LONG_RUN, normal_text, unspelled

# Marks of many classes, letters they compose with, hidden Tibetan vowels, Hangul, what NFC replaces, the end of a line.
HARD = (
    "ae\u0300\u0301\u0308\u0316\u0323\u0327\u0344\u0345\u05b0\u0f71\u0f72\u0f73\u0f75\u0f81\u1100\u1161\u11a8\u212b가\n"
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("e\u0301", "é"),
        ("\ud83d\ude00", "😀"),
        ("a\ud800b\udfff", "a\ufffdb\ufffd"),
        ("\udfff\ud800", "\ufffd\ufffd"),
        ("\ufeff好\ud800", "\ufeff好\ufffd"),
        ("\ud834\udd5e", "\U0001d157\U0001d165"),  # a pair spells a character that NFC takes apart
    ],
)
def test_known_answers(text: str, expected: str) -> None:
    assert normal_text(text) == expected


def test_without_nfc_only_surrogates_change() -> None:
    assert normal_text("e\u0301 \ud800", nfc=False) == "e\u0301 \ufffd"


def test_every_lone_surrogate_becomes_one_replacement() -> None:
    assert all(normal_text(f"a{chr(code)}b") == "a\ufffdb" for code in range(0xD800, 0xE000))


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from(HARD), max_size=60))
def test_ordering_long_runs_does_not_change_nfc(text: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(normal, "LONG_RUN", 4)
        patch.setattr(normal, "_RUN", re.compile(rb"[^\0]{4,}", re.DOTALL))
        assert normal_text(text) == unicodedata.normalize("NFC", text)


def test_only_long_runs_count_as_long() -> None:
    words = "שָׁלוֹם עֲלֵיכֶם " * 400 + "हिन्दी में लिखा हुआ " * 400
    for at in (0, 1000):
        for mark in ("\u0301", "\u0f73"):
            for length, is_long in ((LONG_RUN // 2 - 2, False), (LONG_RUN, True), (2 * LONG_RUN, True)):
                assert normal._may_have_long_run(words[:at] + mark * length + words[at:]) is is_long


def test_a_long_run_of_alternating_marks_takes_no_quadratic_time() -> None:
    began = time.process_time()
    text = normal_text("a" + "\u0301\u0323" * 200_000 + "\u0f73" * 1000)
    assert time.process_time() - began < 5  # Python alone: more than six minutes
    marks = "\u0f71" * 1000 + "\u0f72" * 1000 + "\u0323" * 199_999 + "\u0301" * 200_000
    assert text == "\u1ea1" + marks  # a and the first dot below compose


# ---- bytes that a vocabulary lacks ------------------------------------------------------------------------------


@pytest.mark.parametrize("byte", [0x04, 0x41, 0xC3, 0xE0, 0xE4, 0xF0, 0xF1, 0xF4])
def test_exactly_the_characters_that_need_a_missing_byte_are_unspelled(byte: int) -> None:
    found = unspelled({bytes([other]) for other in range(256) if other != byte})
    text = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)
    assert found is not None
    assert "".join(found.findall(text)) == "".join(char for char in text if byte in char.encode())


def test_bytes_that_begin_no_character_are_not_missed() -> None:
    assert unspelled({bytes([byte]) for byte in range(256) if byte not in (0xC0, 0xC1, *range(0xF5, 0x100))}) is None
    for needed in (0x80, 0xBF, 0xEF):  # of many characters, or of U+FFFD itself
        with pytest.raises(ValueError):
            unspelled({bytes([byte]) for byte in range(256) if byte != needed})
