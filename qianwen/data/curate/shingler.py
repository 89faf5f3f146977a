"""Shingles and signatures in C++ (`native/shingles.cpp`): what `minhash.py` says to the bit, several times as fast."""

import ctypes
import functools
from ctypes import c_int64, c_void_p
from pathlib import Path

import numpy as np

from qianwen.data.text_arrays import Texts, tables
from qianwen.runtime.compiler import NativeLibrary, is_usable, native_library
from qianwen.runtime.translation import tr

SOURCES = Path(__file__).parent / "native"


@functools.cache
def available() -> bool:
    """Whether it can be compiled here; compiles it at the first call."""
    return is_usable(library(), tr("deduplication will be slower"))


@functools.cache
def library() -> NativeLibrary:
    """The compiled shingler, or why there is none."""
    return native_library("shingler", SOURCES)


class _Texts(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("codes", "first")),
        ("count", c_int64),
        *((name, c_void_p) for name in ("kinds", "folded")),
        ("table", c_int64),
    ]


@functools.cache
def _functions() -> ctypes.CDLL:
    path = library().path
    assert path is not None, "call available() first"
    functions = ctypes.CDLL(str(path))
    functions.qd_sign.argtypes = (c_void_p, c_int64, c_void_p, c_void_p, c_int64, c_void_p, c_void_p, c_void_p)
    functions.qd_sign.restype = None
    functions.qd_sets.argtypes = (c_void_p, c_int64, c_void_p, c_void_p)
    functions.qd_sets.restype = c_int64
    functions.qd_shared.argtypes = (c_void_p, c_int64, c_void_p, c_void_p, c_void_p, c_void_p)
    functions.qd_shared.restype = None
    return functions


def sign(texts: Texts, size: int, factors: np.ndarray, terms: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Words of each text (int64 [D]), the key of all of them (uint64 [D]), and its signature (uint32 [D, H])."""
    num_words, keys = np.empty(len(texts), np.int64), np.empty(len(texts), np.uint64)
    least = np.empty((len(texts), len(factors)), np.uint32)
    given, address = _described(texts)
    hashes = (factors.ctypes.data, terms.ctypes.data, len(factors))
    _functions().qd_sign(address, size, *hashes, num_words.ctypes.data, keys.ctypes.data, least.ctypes.data)
    del given
    return num_words, keys, least


def sets(texts: Texts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The shingles of each text sorted and once each, uint32, text after text; and how many each has, int64 [D]."""
    values, counts = np.empty(len(texts.codes), np.uint32), np.empty(len(texts), np.int64)
    given, address = _described(texts)
    number = _functions().qd_sets(address, size, values.ctypes.data, counts.ctypes.data)
    del given
    return values[:number].copy(), counts


def shared(pairs: np.ndarray, values: np.ndarray, begin: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How many shingles the two documents of each pair [P, 2] have both, int64 [P]; see `minhash.likeness`."""
    places = [np.ascontiguousarray(array, dtype=np.int64) for array in (pairs, begin, sizes)]
    pairs_at, begin_at, sizes_at = (array.ctypes.data for array in places)
    values, found = np.ascontiguousarray(values, dtype=np.uint32), np.empty(len(pairs), np.int64)
    _functions().qd_shared(pairs_at, len(pairs), values.ctypes.data, begin_at, sizes_at, found.ctypes.data)
    return found


def _described(texts: Texts) -> tuple[tuple, int]:
    """What the kernels are told of texts: to be kept, and its address."""
    kinds, folded = tables()[:2]
    first = np.ascontiguousarray(texts.first_char, dtype=np.int64)
    arrays = (texts.codes, first, kinds, folded)
    codes, starts, kinds_at, folded_at = (array.ctypes.data for array in arrays)
    struct = _Texts(codes, starts, len(texts), kinds_at, folded_at, len(kinds))
    return (arrays, struct), ctypes.addressof(struct)
