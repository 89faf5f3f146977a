"""An n-gram model over hashed words with stupid backoff (Brants et al., 2007): how usual the words of a text are.

    S(w | u v) = c(u v w) / c(u v)   if the three words were seen together,
    0.4 · S(w | v)                   otherwise, and so on down to c(w) / N and, for an unseen word, 0.16 · ½ / N

A count is stored as the logarithm, in one byte (in steps of 8 %): three tables that fit in the cache of a core. A table
has 2^BITS cells addressed by hash. If two n-grams share a cell, both seem slightly more frequent.

A word is a run of letters, or one character in Chinese or Thai (`text_arrays.py`), so one model covers several
languages. The result is the mean surprise −log S in nats a word. S does not sum to one, so this is not a probability,
and the number of training texts shifts it for every text: a model of more texts knows more words.

D texts, W words.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qianwen.data.text_arrays import Texts, by_size

ORDER, BITS, BACKOFF = 3, 20, 0.4
STEP = 0.08  # of the logarithm of a count


@dataclass(frozen=True)
class NgramModel:
    """`counts[n − 1]` [2^BITS] uint8 are those of runs of n words: 0 if not seen, otherwise 1 + log(count) / STEP."""

    counts: tuple[np.ndarray, ...]
    total: int

    def surprise(self, texts: Texts) -> np.ndarray:
        """Mean −log S of the words of each text, in nats [D]; that of an unseen word for a text without words."""
        floor = 2 * np.log(BACKOFF) - np.log(self.total)
        unseen = np.log(0.5) + floor
        if not len(texts.word_start):
            return np.full(len(texts), -unseen)
        counts = [self._counts_of(texts, size) for size in range(1, ORDER + 1)]
        score = np.where(counts[0] > 0, STEP * (counts[0] - 1) + floor, unseen).astype(np.float32)
        before = np.arange(len(score)) - np.repeat(texts.first_word[:-1], texts.num_words)  # words of its text
        for size in range(2, ORDER + 1):
            seen, context = counts[size - 1][: -size + 1], counts[size - 2][: -size + 1]
            longer = np.flatnonzero((seen > 0) & (before[size - 1 :] >= size - 1))
            likely = STEP * np.minimum(seen[longer] - context[longer], 0) + (ORDER - size) * np.log(BACKOFF)
            score[longer + size - 1] = likely  # of the longest run that was seen, since sizes ascend
        sums = np.bincount(texts.word_document, weights=score, minlength=len(texts))
        return -np.where(texts.num_words > 0, sums / np.maximum(texts.num_words, 1), unseen)

    def _counts_of(self, texts: Texts, size: int) -> np.ndarray:
        """The byte of the run of `size` words that begins with each word [W]; 0 where the text ends before the run."""
        cells, begin = _cells(texts, size)
        counts = np.zeros(len(texts.word_start), dtype=np.int16)
        counts[begin] = self.counts[size - 1].take(cells)
        return counts


def fit_ngrams(texts: Iterable[str]) -> NgramModel:
    """Count the runs of one to ORDER words."""
    counts = [np.zeros(1 << BITS, dtype=np.int64) for _ in range(ORDER)]
    total = 0
    for batch in by_size(texts, 1 << 20):
        arrays = Texts(batch)
        total += len(arrays.word_start)
        for size in range(1, ORDER + 1):
            counts[size - 1] += np.bincount(_cells(arrays, size)[0], minlength=1 << BITS)
    logs = [np.where(n > 0, 1 + np.rint(np.log(np.maximum(n, 1)) / STEP), 0).astype(np.uint8) for n in counts]
    return NgramModel(tuple(logs), max(total, 1))


def _cells(texts: Texts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each run of `size` words, and the index of its first word."""
    hashes, begin = texts.ngrams(size)
    return (hashes >> np.uint64(64 - BITS)).astype(np.int64), begin
