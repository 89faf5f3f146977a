"""Content that no template can turn into a control token.

A template returns one text, in which its own `<|im_end|>` and one that a user typed look the same. So before it runs,
every character of the content that a special token is written with (`<`, `|`, `>`, and `｜`, `▁` of DeepSeek's) is
replaced by a private character that occurs neither in the conversation nor in the template. What still looks like a
special token afterwards was written by the template, whatever it cut, joined or replaced. Then the characters are put
back. A character stands for one character, so lengths and blanks stay what they are.

One thing remains to the template: it could itself write `<|`, a piece of the content, and `|>`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

FIRST_PRIVATE, LAST_PRIVATE = 0xF0000, 0xFFFFD  # a plane of Unicode without any assigned character
THINK_TAGS = ("<think>", "</think>")


class Marks:
    """Replaces and restores the characters of `special` tokens in one conversation of these `texts`."""

    def __init__(self, special: Iterable[str], texts: Iterable[str]) -> None:
        chars = sorted(set().union(*map(_significant, special)))
        used = set().union(*texts)
        free = (chr(code) for code in range(FIRST_PRIVATE, LAST_PRIVATE + 1) if chr(code) not in used)
        marks = [mark for _, mark in zip(chars, free, strict=False)]
        if len(marks) < len(chars):
            raise RequestError(tr("the conversation uses every private character of Unicode"), param="messages")
        self._mark = str.maketrans(dict(zip(chars, marks, strict=True)))
        self._restore = str.maketrans(dict(zip(marks, chars, strict=True)))

    def mark(self, value: Any, but: Sequence[str] = ()) -> Any:
        """Text, or all texts in a JSON value, with its characters replaced, except in the tags `but`."""
        if isinstance(value, str):
            if not but:
                return value.translate(self._mark)
            pieces = re.split("(" + "|".join(map(re.escape, but)) + ")", value)
            return "".join(piece if piece in but else piece.translate(self._mark) for piece in pieces)
        if isinstance(value, Mapping):
            return {self.mark(key, but): self.mark(item, but) for key, item in value.items()}
        return [self.mark(item, but) for item in value] if isinstance(value, (list, tuple)) else value

    def restore(self, text: str) -> str:
        """The text with the characters that it had."""
        return text.translate(self._restore)


def texts_of(value: Any) -> Iterator[str]:
    """All texts in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from texts_of(key)
            yield from texts_of(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_of(item)


def _significant(token: str) -> set[str]:
    """The characters of a token that are neither letters, digits, blanks nor `_`; all, if it has no other."""
    chars = {char for char in token if not (char.isalnum() or char.isspace() or char == "_")}
    return chars or set(token)
