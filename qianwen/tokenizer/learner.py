"""Counting pieces and merging pairs in C++ (`native/`): the same result as rustbpe, several times faster.

    pieces.h    text split with Qwen's pattern
    words.h     the distinct pieces and their counts
    merges.h    repeated merging of the most frequent pair
    learn.cpp   the functions called here

`regex` decides whether a character is a letter, a number or a space; its Unicode version is as new as any encoder's.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Iterator
from ctypes import c_char_p, c_int64, c_void_p
from pathlib import Path

import numpy as np
import regex

from qianwen.runtime.compiler import NativeLibrary, is_usable, native_library
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

SOURCES = Path(__file__).parent / "native"
AT_ONCE = 256  # merges per call into C++, so that Ctrl-C works between calls
OTHER, LETTER, NUMBER, BLANK, LINE_END = range(5)  # as in pieces.h


@functools.cache
def available() -> bool:
    """Whether the learner can be compiled on this machine; the first call compiles it."""
    return is_usable(library(), tr("learning a vocabulary will be slower"))


@functools.cache
def library() -> NativeLibrary:
    """The compiled learner, or the reason why there is none."""
    return native_library("learner", SOURCES)


@functools.cache
def _functions() -> ctypes.CDLL:
    path = library().path
    assert path is not None, "call available() first"
    functions = ctypes.CDLL(str(path))
    functions.qt_new.restype = c_void_p
    prototypes = {
        "qt_new": (c_void_p,),
        "qt_delete": (c_void_p,),
        "qt_count": (c_void_p, c_char_p, c_int64),
        "qt_begin": (c_void_p,),
        "qt_merge": (c_void_p, c_int64, c_void_p),
    }
    for name, types in prototypes.items():
        getattr(functions, name).argtypes = types
    for name in ("qt_count", "qt_begin", "qt_merge"):
        getattr(functions, name).restype = c_int64
    return functions


@functools.cache
def character_kinds() -> np.ndarray:
    """The kind of each code point in the pattern, uint8 [0x110000]."""
    every = np.arange(0x110000, dtype="<u4").tobytes().decode("utf-32-le", "surrogatepass")
    kinds = np.zeros(len(every), np.uint8)
    for kind, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (BLANK, r"\s+"), (LINE_END, r"[\r\n]+")):
        for run in regex.finditer(pattern, every):
            kinds[run.start() : run.end()] = kind
    return kinds


class Learner:
    """Counts the pieces of texts, then merges their bytes, once."""

    def __init__(self) -> None:
        self._kinds = character_kinds()  # C reads it as long as this lives
        self._address = _functions().qt_new(self._kinds.ctypes.data)

    def __del__(self) -> None:
        _functions().qt_delete(self._address)

    def count(self, text: str) -> None:
        """Count the pieces of a text, which must not contain lone surrogates."""
        data = text.encode()
        if _done(_functions().qt_count(self._address, data, len(data))):
            raise DataError(tr("the texts contain more than 4 GB of distinct words; train on a part of them"))

    def merges(self, number: int) -> Iterator[tuple[int, int]]:
        """The two tokens of each merge: bytes are 0 to 255, and every merge makes the next token."""
        _done(_functions().qt_begin(self._address))
        pairs = np.empty((AT_ONCE, 2), np.int32)
        while number > 0:
            done = _done(_functions().qt_merge(self._address, min(number, AT_ONCE), pairs.ctypes.data))
            yield from map(tuple, pairs[:done].tolist())
            number = number - done if done else 0


def _done(result: int) -> int:
    if result < 0:
        raise MemoryError
    return result
