"""Token files as sequences that are cut from long documents, so that late positions are trained.

Packing (`pack.py`) fills a sequence with several documents, and positions restart with each of them: most tokens have
small positions, whatever the sequence length. Here a sequence is `seq_len` consecutive tokens of one document:

    cut     a document of n ≥ L tokens gives ⌊n / L⌋ sequences without overlap; they begin after a random offset, which
            differs from epoch to epoch, so that the cuts differ too
    pack    the remaining tokens, documents shorter than L and both ends of the long ones, are packed as usual; a share
            of the sequences, `packed_share`, is taken from there, so that short texts are not forgotten

In an epoch of the cuts each of them is used once, in an order that depends only on (seed, epoch). Which kind sequence i
is, and its number within that kind, depend only on i, so the position in the data is still one integer.

L = seq_len.
"""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qianwen.data.tokens.pack import PackedDataset, Pieces, Span
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.translation import tr


class CutDataset(PackedDataset):
    """The token files of `folder` as a `PackedDataset`; a share of 1 - `packed_share` is cut from long documents.

    `len()` is the number of sequences in which each cut is used once. Raises DataError if no document has `seq_len`
    tokens.
    """

    def __init__(self, folder: str | Path, seq_len: int, *, seed: int = 0, packed_share: float = 0.0) -> None:
        super().__init__(folder, seq_len, seed=seed)
        check_packed_share(packed_share)
        self.packed_share = packed_share
        self._long = np.flatnonzero(self._lengths >= seq_len)
        self._short = np.flatnonzero(self._lengths < seq_len)
        self._per_document, self._slack = np.divmod(self._lengths[self._long], seq_len)
        self.num_cuts = int(self._per_document.sum())
        self._stream_tokens = self.num_tokens - self.num_cuts * seq_len
        self._check_amounts()
        self._cuts = functools.lru_cache(maxsize=2)(self._shuffled_cuts)

    @property
    def num_long_documents(self) -> int:
        return len(self._long)

    @property
    def epoch_tokens(self) -> int:
        """Tokens in the sequences in which each cut is used once."""
        return len(self) * self.seq_len

    def summary(self) -> str:
        """How many documents are long enough, and what happens to the other tokens, in a sentence."""
        message = (
            "{path}: {documents:,} of {all:,} documents have at least {seq_len:,} tokens and give {cuts:,} "
            "sequences an epoch; the other {rest:,} tokens are packed into {share:.3g} of the sequences"
        )
        if not self.packed_share:
            message = (
                "{path}: {documents:,} of {all:,} documents have at least {seq_len:,} tokens and give {cuts:,} "
                "sequences an epoch; the other {rest:,} tokens are left out"
            )
        return tr(
            message,
            path=self.folder,
            documents=self.num_long_documents,
            all=self.num_documents,
            seq_len=self.seq_len,
            cuts=self.num_cuts,
            rest=self._stream_tokens,
            share=self.packed_share,
        )

    def __len__(self) -> int:
        return int(self.num_cuts / (1 - self.packed_share))

    def spans(self, cursor: int) -> Iterator[Span]:
        """Which tokens of which documents make up sequence `cursor`, in order."""
        num_packed = int(cursor * self.packed_share)
        if int((cursor + 1) * self.packed_share) > num_packed:
            yield from self._packed_spans(num_packed)
        else:
            epoch, number = divmod(cursor - num_packed, self.num_cuts)
            documents, starts = self._cuts(epoch)
            yield Span(int(documents[number]), int(starts[number]), self.seq_len)

    def _check_amounts(self) -> None:
        if not self.num_cuts:
            message = (
                "{path}: the longest document has {longest:,} tokens, so no sequence of {seq_len:,} tokens can be cut "
                "from one document: choose a shorter seq_len, longer documents, or packed_share 1"
            )
            raise DataError(tr(message, path=self.folder, longest=int(self._lengths.max()), seq_len=self.seq_len))
        if self.packed_share and not self._stream_tokens:
            message = "{path}: after cutting no tokens are left for packed sequences: choose packed_share 0"
            raise DataError(tr(message, path=self.folder))

    def _offsets(self, epoch: int) -> np.ndarray:
        """Where the first cut of each long document begins in this epoch."""
        # RandomState for the same reason as in `pack.py`: its streams never change
        return np.random.RandomState([self.seed % 2**32, epoch, 1]).randint(0, self._slack + 1, dtype=np.int64)

    def _shuffled_cuts(self, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The document and the first token of each cut, in this epoch's order."""
        documents = self._long.repeat(self._per_document)
        first = np.cumsum(self._per_document) - self._per_document
        number = np.arange(self.num_cuts) - first.repeat(self._per_document)  # of the cut in its document
        starts = self._offsets(epoch).repeat(self._per_document) + number * self.seq_len
        order = np.random.RandomState([self.seed % 2**32, epoch, 2]).permutation(self.num_cuts)
        return documents[order], starts[order]

    def _shuffled(self, epoch: int) -> Pieces:
        """What is packed: short documents, and both ends of the long ones."""
        offsets, lengths = self._offsets(epoch), self._lengths
        documents = np.concatenate([self._short, self._long, self._long])
        stops = np.concatenate([lengths[self._short], offsets, lengths[self._long]])
        sizes = np.concatenate([lengths[self._short], offsets, self._slack - offsets])
        order = np.random.RandomState([self.seed % 2**32, epoch]).permutation(len(documents))
        return Pieces(documents[order], stops[order], np.cumsum(sizes[order]))


def check_packed_share(packed_share: float) -> None:
    """Raise ConfigError unless it is a share."""
    if not 0 <= packed_share <= 1:
        raise ConfigError(tr("packed_share = {value} must be between 0 and 1", value=packed_share))


def arranged(folder: Path, seq_len: int, *, seed: int = 0, packed_share: float = 1.0) -> PackedDataset:
    """The token files of `folder`: packed, or with a smaller `packed_share` the rest cut from long documents."""
    check_packed_share(packed_share)
    if packed_share == 1:
        return PackedDataset(folder, seq_len, seed=seed)
    return CutDataset(folder, seq_len, seed=seed, packed_share=packed_share)
