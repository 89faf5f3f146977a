"""Any Python string → the text that is encoded: valid Unicode, composed (NFC), in time linear in its length.

    lone surrogates     become U+FFFD, because UTF-8 cannot encode them; a pair becomes the character it stands for
    NFC                 e + U+0301 becomes é, so that a text has only one encoding
    runs of marks       NFC orders combining marks by their classes. Python does this with an insertion sort, in
                        quadratic time: 400 kB of two alternating marks take 90 seconds. So long runs are sorted here
                        first. The sorted text is canonically equivalent and has the same NFC.

    unknown bytes       some vocabularies lack bytes that were not in their training text (SmolLM: six control
                        characters, two unused planes); a character that needs such a byte becomes U+FFFD

Not here: any other change that loses information. Decoding returns this normalised text.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Container

LONG_RUN = 256  # marks; Python sorts shorter runs fast enough
LINES_FROM = 2048  # characters of a text that is composed line by line
MARKS_EVERY = 64  # distance in characters between those that are checked for marks
_RUN = re.compile(rb"[^\0]{%d,}" % LONG_RUN, re.DOTALL)  # applied to the combining classes of a text, one byte each
# The class of three Tibetan vowels is not that of a mark, but they decompose into marks. No other character does.
_HIDDEN_MARKS = {ord(mark): unicodedata.normalize("NFD", mark) for mark in "\u0f73\u0f75\u0f81"}


def normal_text(text: str, nfc: bool = True) -> str:
    """The normalised form of `text`, which is what gets encoded."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _composed(_with_ordered_runs(text)) if nfc else text


def unspelled(tokens: Container[bytes]) -> re.Pattern[str] | None:
    """A pattern for characters whose UTF-8 needs a byte that is not a token, or None if there is no such character.

    Raises ValueError if a byte is missing that most characters, or U+FFFD itself, need. The bytes c0, c1 and f5 to ff
    are not part of any UTF-8 text, so they may be missing.
    """
    missing = [byte for byte in range(0xF5) if bytes([byte]) not in tokens and byte not in (0xC0, 0xC1)]
    if any(0x80 <= byte < 0xC0 or byte == 0xEF for byte in missing):
        raise ValueError(missing)
    return re.compile("[" + "".join(map(_characters_from, missing)) + "]") if missing else None


def _characters_from(byte: int) -> str:
    """The range of characters whose UTF-8 begins with this byte, as written inside the brackets of a regex."""
    size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    start = byte if size == 1 else (byte & (0xFF >> (size + 1))) << 6 * (size - 1)
    last = min(start + (1 << 6 * (size - 1)) - 1, sys.maxunicode)
    first = max(start, (0, 0x80, 0x800, 0x10000)[size - 1])
    return f"{re.escape(chr(first))}-{re.escape(chr(last))}"


def _composed(text: str) -> str:
    """NFC of the whole text at once if it seems to have no marks, otherwise line by line.

    Python checks quickly whether a text is in NFC already, but a single mark in it makes the check fail. In a text with
    marks most lines have none, and characters are never composed across a line break.
    """
    if len(text) < LINES_FROM or not any(map(unicodedata.combining, text[::MARKS_EVERY])):
        return unicodedata.normalize("NFC", text)
    lines = text.split("\n")
    return "\n".join([line if line.isascii() else unicodedata.normalize("NFC", line) for line in lines])


def _with_ordered_runs(text: str) -> str:
    """`text` with the marks of every long run in canonical order."""
    if not _may_have_long_run(text):
        return text
    text = text.translate(_HIDDEN_MARKS)
    pieces, end = [], 0
    for run in _RUN.finditer(bytes(map(unicodedata.combining, text))):
        pieces += text[end : run.start()], _ordered(text[run.start() : run.end()])
        end = run.end()
    return "".join([*pieces, text[end:]])


def _may_have_long_run(text: str) -> bool:
    """Whether the text may contain a long run of marks. Checks only a few characters of a text without long runs."""
    half = LONG_RUN // 2
    for at, char in enumerate(text[LONG_RUN - 1 :: LONG_RUN], start=1):  # a long run contains at least one of these
        if _is_mark(char):  # and at least half of the run is on one side of it
            end = at * LONG_RUN
            if all(map(_is_mark, text[end - half : end])) or all(map(_is_mark, text[end - 1 : end - 1 + half])):
                return True
    return False


def _is_mark(char: str) -> bool:
    return unicodedata.combining(char) > 0 or ord(char) in _HIDDEN_MARKS


def _ordered(run: str) -> str:
    """The marks sorted by class; marks of the same class keep their order."""
    class_of = {ord(mark): unicodedata.combining(mark) for mark in set(run)}
    classes = sorted(set(class_of.values()))
    return "".join(run.translate({mark: None for mark in class_of if class_of[mark] != one}) for one in classes)
