"""Any Python string → the text that is encoded: valid Unicode, composed (NFC), in time linear in its length.

    lone surrogates     become U+FFFD, as UTF-8 cannot hold them; a pair of them becomes the character it spells
    NFC                 e + U+0301 becomes é, so that one text has one encoding
    runs of marks       Unicode wants combining marks in the order of their classes. Python sorts them by insertion,
                        in quadratic time: 400 kB of two alternating marks take a minute and a half. Long runs are put
                        in order before Python sees them, which gives a canonically equivalent text, so the same NFC.

Not here: any change that loses information. Decoding gives this text back.
"""

from __future__ import annotations

import re
import unicodedata

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
