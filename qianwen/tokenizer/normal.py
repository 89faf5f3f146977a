"""Any Python string → the text that is encoded: valid Unicode, composed (NFC), in time linear in its length.

    lone surrogates     become U+FFFD, as UTF-8 cannot hold them; a pair of them becomes the character it spells
    NFC                 e + U+0301 becomes é, so that one text has one encoding
    runs of marks       Unicode wants combining marks in the order of their classes. Python sorts them by insertion,
                        in quadratic time: 400 kB of two alternating marks take a minute and a half. Long runs are put
                        in order before Python sees them, which gives a canonically equivalent text, so the same NFC.

    unknown bytes       some vocabularies lack bytes that their makers' text never had (SmolLM: six control
                        characters, two planes nobody uses); a character that needs one becomes U+FFFD

Not here: any other change that loses information. Decoding gives this text back.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Container

LONG_RUN = 256  # marks; shorter runs are left to Python
LINES_FROM, MARKS_EVERY = 2048, 64  # characters: of a text that is worth cutting; between those looked at
_RUN = re.compile(rb"[^\0]{%d,}" % LONG_RUN, re.DOTALL)  # in a text's combining classes
# Three Tibetan vowels are no marks by their class, but decompose into marks: no other characters do.
_HIDDEN_MARKS = {ord(mark): unicodedata.normalize("NFD", mark) for mark in "\u0f73\u0f75\u0f81"}


def normal_text(text: str, nfc: bool = True) -> str:
    """The text that is encoded in place of `text`."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return _composed(_with_ordered_runs(text)) if nfc else text


def unspelled(tokens: Container[bytes]) -> re.Pattern[str] | None:
    """The characters whose UTF-8 needs a byte that is no token, or None; ValueError if hardly any could be spelled.

    Bytes that begin no character (c0, c1, f5 and above) are in no text, so nobody misses them.
    """
    missing = [byte for byte in range(0xF5) if bytes([byte]) not in tokens and byte not in (0xC0, 0xC1)]
    if any(0x80 <= byte < 0xC0 or byte == 0xEF for byte in missing):
        raise ValueError(missing)
    return re.compile("[" + "".join(map(_characters_from, missing)) + "]") if missing else None


def _characters_from(byte: int) -> str:
    """The range of characters whose UTF-8 begins with this byte, as it stands between brackets."""
    size = 1 if byte < 0x80 else 2 if byte < 0xE0 else 3 if byte < 0xF0 else 4
    start = byte if size == 1 else (byte & (0xFF >> (size + 1))) << 6 * (size - 1)
    last = min(start + (1 << 6 * (size - 1)) - 1, sys.maxunicode)
    first = max(start, (0, 0x80, 0x800, 0x10000)[size - 1])
    return f"{re.escape(chr(first))}-{re.escape(chr(last))}"


def _composed(text: str) -> str:
    """NFC, in whole where Python is likely to see at once that nothing composes, else a line at a time.

    Nothing composes over a line's end, and of a text with marks most lines have none.
    """
    if len(text) < LINES_FROM or not any(map(unicodedata.combining, text[::MARKS_EVERY])):
        return unicodedata.normalize("NFC", text)
    lines = text.split("\n")
    return "\n".join([line if line.isascii() else unicodedata.normalize("NFC", line) for line in lines])


def _with_ordered_runs(text: str) -> str:
    """`text`, with the marks of every long run in canonical order."""
    if not _may_have_long_run(text):
        return text
    text = text.translate(_HIDDEN_MARKS)
    pieces, end = [], 0
    for run in _RUN.finditer(bytes(map(unicodedata.combining, text))):
        pieces += text[end : run.start()], _ordered(text[run.start() : run.end()])
        end = run.end()
    return "".join([*pieces, text[end:]])


def _may_have_long_run(text: str) -> bool:
    """Whether some place in the text looks like the inside of a long run."""
    half = LONG_RUN // 2
    for at, char in enumerate(text[LONG_RUN - 1 :: LONG_RUN], start=1):  # a long run covers one of these
        if _is_mark(char):  # and reaches half its length to one side of it
            end = at * LONG_RUN
            if all(map(_is_mark, text[end - half : end])) or all(map(_is_mark, text[end - 1 : end - 1 + half])):
                return True
    return False


def _is_mark(char: str) -> bool:
    return unicodedata.combining(char) > 0 or ord(char) in _HIDDEN_MARKS


def _ordered(run: str) -> str:
    """The marks sorted by their class, those of one class in the order they had."""
    class_of = {ord(mark): unicodedata.combining(mark) for mark in set(run)}
    classes = sorted(set(class_of.values()))
    return "".join(run.translate({mark: None for mark in class_of if class_of[mark] != one}) for one in classes)
