"""How usual a text is: an n-gram model over hashed words, with stupid backoff (Brants et al., 2007).

    S(w | u v) = c(u v w) / c(u v)   where the three words were seen together,
    0.4 · S(w | v)                   else, and so on down to c(w) / N and, for a word never seen, 0.16 · ½ / N

A word is a Chinese or Thai character, or a run of letters (`words.py`), so one model serves several languages. Counts
lie in tables of 2^BITS cells addressed by hash: now and then two n-grams share one, which makes both look a little more
usual. What a text scores is its mean surprise, −log S, in nats a word. It is no probability, for nothing sums to one,
and need not be: `calibrate.py` reads it. Any other function from texts to nats, a transformer's say, may stand in its
place.

D texts, W words.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qianwen.data.words import Texts, by_size, mixed

ORDER, BITS, BACKOFF = 3, 21, 0.4


@dataclass(frozen=True)
class NgramModel:
    """`counts[n − 1]` [2^BITS] uint32 are those of runs of n words."""

    counts: tuple[np.ndarray, ...]
    total: int

    def surprise(self, texts: Texts) -> np.ndarray:
        """Mean −log S of the words of each text, in nats [D]; that of a word never seen for a text without words."""
        unseen = -np.log(BACKOFF ** (ORDER - 1) * 0.5 / self.total)
        if not len(texts.word_start):
            return np.full(len(texts), unseen)
        known = [self._seen(texts, size) for size in range(1, ORDER + 1)]
        place = np.arange(len(texts.word_start))
        inside = place - np.repeat(texts.first_word[:-1], texts.num_words)  # words before it in its text
        score = BACKOFF ** (ORDER - 1) * np.maximum(known[0], 0.5) / self.total
        for size in range(2, ORDER + 1):
            begin = np.maximum(place - size + 1, 0)
            seen, context = known[size - 1][begin], known[size - 2][begin]
            usable = (inside >= size - 1) & (seen > 0) & (context > 0)
            score = np.where(usable, BACKOFF ** (ORDER - size) * seen / np.maximum(np.maximum(context, seen), 1), score)
        sums = np.bincount(texts.word_document, weights=-np.log(score), minlength=len(texts))
        return np.where(texts.num_words > 0, sums / np.maximum(texts.num_words, 1), unseen)

    def _seen(self, texts: Texts, size: int) -> np.ndarray:
        """How often the run of `size` words that begins with each word was seen [W]; 0 where the text ends first."""
        cells, begin = _cells(texts, size)
        found = np.zeros(len(texts.word_start), dtype=np.float64)
        found[begin] = self.counts[size - 1].take(cells)
        return found


def fit_ngrams(texts: Iterable[str]) -> NgramModel:
    """Count the runs of one to ORDER words."""
    counts = [np.zeros(1 << BITS, dtype=np.uint32) for _ in range(ORDER)]
    total = 0
    for batch in by_size(texts):
        arrays = Texts(batch)
        total += len(arrays.word_start)
        for size in range(1, ORDER + 1):
            cells, often = np.unique(_cells(arrays, size)[0], return_counts=True)
            counts[size - 1][cells] += often.astype(np.uint32)
    return NgramModel(tuple(counts), max(total, 1))


def _cells(texts: Texts, size: int) -> tuple[np.ndarray, np.ndarray]:
    """The cell of each run of `size` words, and the word it begins with."""
    hashes, begin = texts.ngrams(size)
    return (mixed(hashes) >> np.uint64(64 - BITS)).astype(np.int64), begin
