"""Several streams of sequences as one, in exact proportions, without a memory of what was read.

The stream of sequence i, and its number within that stream, depend only on i: with A_d(b) = ⌊b · B · w_d⌋, block b
holds A_d(b+1) − A_d(b) sequences of stream d in a shuffled order. So proportions are exact after every block, every
sequence of a stream is used as often as any other, and a resumed run needs only its cursor.

B sequences in a block, D streams.
"""

import functools
from collections.abc import Sequence

import numpy as np

BLOCK = 256  # sequences; a small run needs a smaller block for exact proportions


class Interleaving:
    """The order of D streams with the given shares, which are above 0 and sum to 1."""

    def __init__(self, shares: Sequence[float], *, seed: int = 0, block: int = BLOCK) -> None:
        self.shares, self.seed, self.block = np.array(shares), seed, block
        self._block = functools.lru_cache(maxsize=8)(self._shuffled)

    def place(self, cursor: int) -> tuple[int, int]:
        """The stream of sequence `cursor`, and its number within that stream."""
        block = cursor // self.block
        while self._before(block + 1).sum() <= cursor:  # rounding down leaves a block at most D short
            block += 1
        order, nth = self._block(block)
        inside = cursor - int(self._before(block).sum())
        return int(order[inside]), int(nth[inside])

    def _before(self, block: int) -> np.ndarray:
        """Sequences of each stream before a block [D]."""
        return np.floor(block * self.block * self.shares + 1e-9).astype(np.int64)

    def _shuffled(self, block: int) -> tuple[np.ndarray, np.ndarray]:
        """The stream of each sequence of a block, and its number in that stream."""
        before, after = self._before(block), self._before(block + 1)
        stream = np.repeat(np.arange(len(before)), after - before)
        # RandomState for the same reason as in `pack.py`: its streams never change
        stream = stream[np.random.RandomState([self.seed % 2**32, block]).permutation(len(stream))]
        nth = np.empty(len(stream), dtype=np.int64)
        for number, start in enumerate(before):
            positions = np.flatnonzero(stream == number)
            nth[positions] = start + np.arange(len(positions))
        return stream, nth
