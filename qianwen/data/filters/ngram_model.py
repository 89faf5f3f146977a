"""How usual a text is: an n-gram model over hashed words, with stupid backoff (Brants et al., 2007).

    S(w | u v) = c(u v w) / c(u v)   where the three words were seen together,
    0.4 · S(w | v)                   else, and so on down to c(w) / N and, for a word never seen, 0.16 · ½ / N

Counts are kept as one byte each, as logarithms (a step is 8 %): three tables that stay in a core's cache.

A word is a Chinese or Thai character, or a run of letters (`text_arrays.py`), so one model serves several languages.
Counts lie in tables of 2^BITS cells addressed by hash: now and then two n-grams share one, which makes both look a
little more usual. What a text scores is its mean surprise, −log S, in nats a word. It is no probability, for nothing
sums to one, and need not be: `score_calibration.py` reads it. Any other function from texts to nats, a transformer's
say, may stand in its place.

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
    """`counts[n − 1]` [2^BITS] uint8 are those of runs of n words, 0 for none, else 1 + log(count) / STEP."""

    counts: tuple[np.ndarray, ...]
    total: int

    def surprise(self, texts: Texts) -> np.ndarray:
        """Mean −log S of the words of each text, in nats [D]; that of a word never seen for a text without words."""
        floor = 2 * np.log(BACKOFF) - np.log(self.total)
        unseen = np.log(0.5) + floor
        if not len(texts.word_start):
            return np.full(len(texts), -unseen)
        known = [self._seen(texts, size) for size in range(1, ORDER + 1)]
        score = np.where(known[0] > 0, STEP * (known[0] - 1) + floor, unseen).astype(np.float32)
        left = np.arange(len(score)) - np.repeat(texts.first_word[:-1], texts.num_words)  # words before it in its text
        for size in range(2, ORDER + 1):
            seen, context = known[size - 1][: -size + 1], known[size - 2][: -size + 1]
            better = np.flatnonzero((seen > 0) & (left[size - 1 :] >= size - 1))
            likely = STEP * np.minimum(seen[better] - context[better], 0) + (ORDER - size) * np.log(BACKOFF)
            score[better + size - 1] = likely
        sums = np.bincount(texts.word_document, weights=score, minlength=len(texts))
        return -np.where(texts.num_words > 0, sums / np.maximum(texts.num_words, 1), unseen)

    def _seen(self, texts: Texts, size: int) -> np.ndarray:
        """The byte of the run of `size` words that begins with each word [W]; 0 where the text ends first."""
        cells, begin = _cells(texts, size)
        found = np.zeros(len(texts.word_start), dtype=np.int16)
        found[begin] = self.counts[size - 1].take(cells)
        return found


def fit_ngrams(texts: Iterable[str]) -> NgramModel:
    """Count the runs of one to ORDER words."""
    counts = [np.zeros(1 << BITS, dtype=np.int64) for _ in range(ORDER)]
    total = 0
    for batch in by_size(texts, 1 << 20):
        arrays = Texts(batch)
        total += len(arrays.word_start)
        for size in range(1, ORDER + 1):
            counts[size - 1] += np.bincount(_cells(arrays, size)[0], minlength=1 << BITS)
    bytes_ = [np.where(n > 0, 1 + np.rint(np.log(np.maximum(n, 1)) / STEP), 0).astype(np.uint8) for n in counts]
    return NgramModel(tuple(bytes_), max(total, 1))


def _cells(texts: Texts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each run of `size` words, and the word it begins with."""
    hashes, begin = texts.ngrams(size)
    return (hashes >> np.uint64(64 - BITS)).astype(np.int64), begin
