"""Similarity of texts without comparing all pairs: MinHash with bands (Broder, 1997; Qwen report, section 2.1).

    shingle     a run of five words; a Chinese or Thai character is a word
    likeness    of two texts: the shingles they share ÷ the shingles either has (Jaccard)
    signature   for each of 120 hash functions, the smallest hash of any shingle: the probability that two texts
                agree in one value equals their likeness
    band        six values of the signature as one hash: texts of likeness s share at least one of 20 bands with
                probability 1 − (1 − s⁶)²⁰, 0.998 at 0.8, 0.27 at 0.5

Bands only give candidate pairs. Each pair is then compared shingle by shingle (`likeness`), so there are no false
duplicates.

D documents, S shingles, H = num_bands · rows_per_band hash functions.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from qianwen.data.curate import shingler
from qianwen.data.text_arrays import Texts, mixed

SHINGLES = 1 << 15  # hashed at a time: 128 KiB, which fit in the cache


@dataclass(frozen=True, kw_only=True)
class MinHashConfig:
    """Settings of near-duplicate detection."""

    shingle: int = 5  # words
    num_bands: int = 20
    rows_per_band: int = 6  # hash functions in a band
    threshold: float = 0.8  # minimum likeness of near duplicates
    seed: int = 1


class Signed(NamedTuple):
    """The data of each text that is compared."""

    num_words: np.ndarray  # int64 [D]
    word_keys: np.ndarray  # uint64 [D]: of all its words in their order
    signatures: np.ndarray  # uint32 [D, H]; all ones for a text without words


def shingles(texts: Texts, config: MinHashConfig) -> tuple[np.ndarray, np.ndarray]:
    """Hashes of all shingles (uint32 [S], a document's together) and how many each document has [D].

    A text of fewer words than a shingle is one; a text without words has none.
    """
    hashes, begin = texts.ngrams(config.shingle, keep_short=True)
    counts = np.bincount(texts.word_document[begin], minlength=len(texts))
    return (hashes >> np.uint64(32)).astype(np.uint32), counts


def signed(texts: Texts, config: MinHashConfig) -> Signed:
    """What is compared of each text, by the kernel where it can be compiled."""
    if shingler.available():
        functions = _functions(config.num_bands * config.rows_per_band, config.seed)
        return Signed(*shingler.sign(texts, config.shingle, *functions))
    return Signed(texts.num_words, texts.word_keys(), _signatures(texts, config))


def _signatures(texts: Texts, config: MinHashConfig) -> np.ndarray:
    hashes, counts = shingles(texts, config)
    factors, terms = _functions(config.num_bands * config.rows_per_band, config.seed)
    least = np.full((len(factors), len(texts)), 0xFFFFFFFF, dtype=np.uint32)
    full = np.flatnonzero(counts)
    ends = np.cumsum(counts[full])
    low = 0
    while low < len(full):
        start = int(ends[low] - counts[full[low]])
        high = max(int(np.searchsorted(ends, start + SHINGLES, side="right")), low + 1)
        some = hashes[start : ends[high - 1]]
        starts = ends[low:high] - counts[full[low:high]] - start
        product = np.empty_like(some)
        for number in range(len(factors)):
            np.multiply(some, factors[number], out=product)
            np.add(product, terms[number], out=product)
            least[number, full[low:high]] = np.minimum.reduceat(product, starts)
        low = high
    return np.ascontiguousarray(least.T)


def bands(signature: np.ndarray, config: MinHashConfig) -> np.ndarray:
    """One hash for each band of each signature, uint64 [D, num_bands]."""
    rows = signature.reshape(len(signature), config.num_bands, config.rows_per_band).astype(np.uint64)
    joined = np.zeros(rows.shape[:2], dtype=np.uint64)
    for row in range(config.rows_per_band):
        joined = mixed(joined + rows[:, :, row] + np.uint64(row + 1))
    return joined


def shingle_sets(texts: Texts, config: MinHashConfig) -> tuple[np.ndarray, np.ndarray]:
    """Each document's shingles sorted and once each, uint32, a document's together; and how many each has [D]."""
    return shingler.sets(texts, config.shingle) if shingler.available() else _shingle_sets(texts, config)


def _shingle_sets(texts: Texts, config: MinHashConfig) -> tuple[np.ndarray, np.ndarray]:
    hashes, counts = shingles(texts, config)
    document = np.repeat(np.arange(len(counts), dtype=np.uint64), counts)
    once = np.unique((document << np.uint64(32)) | hashes)
    return once.astype(np.uint32), np.bincount((once >> np.uint64(32)).astype(np.int64), minlength=len(counts))


def likeness(pairs: np.ndarray, sets: np.ndarray, begin: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """The exact Jaccard likeness of each pair [P, 2] of documents; the shingles of document d are the sizes[d] values
    from sets[begin[d]] on, ascending.
    """
    shared = shingler.shared(pairs, sets, begin, sizes) if shingler.available() else _shared(pairs, sets, begin, sizes)
    return shared / np.maximum(sizes[pairs].sum(axis=1) - shared, 1)


def _shared(pairs: np.ndarray, sets: np.ndarray, begin: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """How many shingles the two of each pair have both [P]."""
    found = np.zeros(len(pairs), dtype=np.int64)
    ends = np.cumsum(sizes[pairs].sum(axis=1)) if len(pairs) else np.zeros(0, dtype=np.int64)
    low = 0
    while low < len(pairs):
        before = ends[low - 1] if low else 0
        high = max(int(np.searchsorted(ends, before + (1 << 20), side="right")), low + 1)
        members = pairs[low:high].reshape(-1)
        lengths = sizes[members]
        offset = np.repeat(begin[members] - (np.cumsum(lengths) - lengths), lengths)
        values = sets[offset + np.arange(int(lengths.sum()))]
        pair = np.repeat(np.repeat(np.arange(high - low, dtype=np.uint64), 2), lengths)
        keys = np.sort((pair << np.uint64(32)) | values)
        twice = keys[1:][keys[1:] == keys[:-1]]
        found[low:high] = np.bincount((twice >> np.uint64(32)).astype(np.int64), minlength=high - low)
        low = high
    return found


@functools.cache
def _functions(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """x → a·x + b modulo 2^32 with odd a, for `count` pairs (a, b)."""
    drawn = mixed(np.arange(2 * count, dtype=np.uint64) + mixed(np.array([seed], dtype=np.uint64)))
    numbers = (drawn >> np.uint64(32)).astype(np.uint32)
    return numbers[:count] | np.uint32(1), numbers[count:]
