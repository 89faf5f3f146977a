"""Documents as token files, and token files as full training sequences (Qwen report, section 2.4).

"Documents are shuffled, merged and then truncated to the context length." Here:

    write    each document's ids and one end-of-document id are written to memory-mapped shards, their lengths and
             their origins (`provenance.py`) to two tables
    shuffle  an epoch is a permutation of the documents, which depends only on (seed, epoch)
    merge    the permuted documents form one stream, epoch after epoch; sequence i is its tokens [i·L, (i+1)·L)

So every token is an input exactly once per epoch, there is no padding, and the position in the data is one integer:
the number of sequences already used. Positions restart at 0 with every document (and where a document is
cut by the end of a sequence), which tells the model where attention must stop. A label is the next token of
the same document; after the last one there is nothing to predict (-100).

Not here: sequences of one document (`cuts.py`), weighting sources (a mixture is a choice of documents, `mixture.py`),
and reading ahead: the system's page cache does that.
Shapes: B sequences, L = seq_len.
"""

import functools
import hashlib
import json
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qianwen.data.documents.document import Document, Rejected
from qianwen.data.documents.drop_reasons import reason_text
from qianwen.data.documents.readers import read_documents
from qianwen.data.tokens.provenance import ORIGINS, OriginsWriter, Tokens, origins_of
from qianwen.runtime.atomic import MANIFEST, atomic_folder
from qianwen.runtime.errors import DataError
from qianwen.runtime.log import console
from qianwen.runtime.translation import tr

IGNORED = -100  # the label of a position that predicts nothing
TOKEN, LENGTH = np.dtype("<u4"), np.dtype("<u4")  # on disk, whatever the machine
EncodeBatch = Callable[[list[str]], Iterable[Sequence[int] | np.ndarray]]
INDEX, LENGTHS = "index.json", "lengths.bin"


class Span(NamedTuple):
    """`length` tokens of document `document`, from its token `start`; the end-of-document id counts as one."""

    document: int
    start: int
    length: int


class Pieces(NamedTuple):
    """Parts of documents in the order of a stream."""

    documents: np.ndarray
    stops: np.ndarray  # the end of each piece, in tokens of its document
    ends: np.ndarray  # the end of each piece in the stream


def write_tokens(
    documents: Iterable[Sequence[int] | np.ndarray | Tokens],
    folder: str | Path,
    eod_id: int,
    *,
    shard_tokens: int = 2**28,
) -> dict[str, int]:
    """Write `documents` to `folder`, all or nothing, and return how many documents and tokens that was.

    Given `Tokens`, their origins are written too. Empty documents are dropped. A shard ends with the document that
    fills it to `shard_tokens` (2^28 tokens: 1 GiB).
    """
    lengths = array("I")
    shards: list[int] = []  # tokens in each
    with atomic_folder(folder) as temporary, closing(OriginsWriter(temporary / ORIGINS)) as origins:
        remaining = _ids_of(documents, origins)
        while size := _write_shard(remaining, temporary / _shard_name(len(shards)), eod_id, shard_tokens, lengths):
            shards.append(size)
        if not shards:
            raise DataError(
                tr("{folder}: the input contains no documents, so no token files can be written", folder=folder)
            )
        np.asarray(lengths, dtype=LENGTH).tofile(temporary / LENGTHS)
        max_id = max(int(np.memmap(path, dtype=TOKEN, mode="r").max()) for path in temporary.glob("tokens-*"))
        counts = {"num_documents": len(lengths), "num_tokens": sum(shards)}
        (temporary / INDEX).write_text(json.dumps({**counts, "eod_id": eod_id, "max_id": max_id, "shards": shards}))
    return counts


def _ids_of(
    documents: Iterable[Sequence[int] | np.ndarray | Tokens], origins: OriginsWriter
) -> Iterator[Sequence[int] | np.ndarray]:
    """The ids of documents that have any; where they come from goes to `origins`."""
    for document in documents:
        if not isinstance(document, Tokens):
            if len(document):
                yield document
        elif len(document.ids):
            origins.add(document.document)
            yield document.ids


def tokenized(texts: str | Path, encode_batch: EncodeBatch) -> Iterator[Any]:
    """The ids of every document that `readers.py` finds at `texts`; how many it could not read is printed."""
    return (tokens.ids for tokens in tokenized_documents(texts, encode_batch))


def tokenized_documents(texts: str | Path, encode_batch: EncodeBatch) -> Iterator[Tokens]:
    """The same with the documents, for `write_tokens`."""
    rejected: list[Rejected] = []
    readable = _set_aside(read_documents(texts), rejected)
    for batch in _batches(readable):
        ids = encode_batch([document["text"] for document in batch])
        yield from map(Tokens, ids, batch)
    if rejected:
        first = f"{rejected[0].file}: {reason_text(rejected[0].reason)}"
        message = tr(
            "{texts}: {count} files or records could not be read; the first: {first}",
            texts=texts,
            count=len(rejected),
            first=first,
        )
        console.print(message, style="yellow")


def _batches(documents: Iterable[Document], characters: int = 1 << 22) -> Iterator[list[Document]]:
    """Lists of documents of so many characters: long enough for all cores, short enough for memory."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document["text"])
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _set_aside(documents: Iterable[Document | Rejected], rejected: list[Rejected]) -> Iterator[Document]:
    for document in documents:
        if isinstance(document, Rejected):
            rejected.append(document)
        else:
            yield document


def _write_shard(
    documents: Iterator[Sequence[int] | np.ndarray], path: Path, eod_id: int, shard_tokens: int, lengths: "array[int]"
) -> int:
    """Fill one file, append each document's length to `lengths`, and return the tokens written."""
    written, end = 0, np.asarray(eod_id, dtype=TOKEN).tobytes()
    with path.open("wb") as file:
        while written < shard_tokens and (document := next(documents, None)) is not None:
            file.write(np.asarray(document, dtype=TOKEN).tobytes() + end)
            lengths.append(len(document) + 1)
            written += len(document) + 1
    if not written:
        path.unlink()
    return written


class PackedDataset:
    """The token files of `folder` as sequences of `seq_len`, in an order that only `seed` decides.

    `len()` is the full sequences in one epoch; cursors go on past it, into the next epoch's order.
    """

    def __init__(self, folder: str | Path, seq_len: int, *, seed: int = 0) -> None:
        self.folder, self.seq_len, self.seed = Path(folder), seq_len, seed
        try:
            index = json.loads((self.folder / INDEX).read_text())
            self.fingerprint = hashlib.sha256((self.folder / MANIFEST).read_bytes()).hexdigest()
        except (OSError, ValueError) as error:
            message = tr("{folder} contains no token files ({error}); write them first", folder=folder, error=error)
            raise DataError(message) from error
        self.eod_id: int = index["eod_id"]
        self.max_id: int = index["max_id"]
        self.num_tokens: int = index["num_tokens"]
        self._lengths = np.fromfile(self.folder / LENGTHS, dtype=LENGTH).astype(np.int64)
        self._starts = np.cumsum(self._lengths) - self._lengths
        self._shard_starts = np.cumsum([0, *index["shards"][:-1]])
        self._shards = [self._map(number, size) for number, size in enumerate(index["shards"])]
        if self._lengths.sum() != self.num_tokens or sum(index["shards"]) != self.num_tokens:
            raise DataError(
                tr("{folder}: {file} does not match the token files; write them again", folder=folder, file=LENGTHS)
            )
        self._stream_tokens = self.num_tokens  # of one epoch
        self._pieces = functools.lru_cache(maxsize=2)(self._shuffled)

    @property
    def num_documents(self) -> int:
        return len(self._lengths)

    @property
    def epoch_tokens(self) -> int:
        """Tokens in the sequences of one epoch."""
        return self.num_tokens

    def __len__(self) -> int:
        return self.num_tokens // self.seq_len

    def batch(self, cursor: int, micro_batch_size: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `positions` [B, L] of the sequences `cursor`, `cursor` + 1, …"""
        shape = (micro_batch_size, self.seq_len)
        ids, labels = np.empty(shape, dtype=np.int64), np.full(shape, IGNORED, dtype=np.int64)
        positions = np.empty(shape, dtype=np.int64)
        for row in range(micro_batch_size):
            column = 0
            for span in self.spans(cursor + row):
                here = slice(column, column + span.length)
                tokens = self._tokens(span.document, span.start, span.length + 1)
                ids[row, here] = tokens[: span.length]
                labels[row, column : column + len(tokens) - 1] = tokens[1:]
                positions[row, here] = np.arange(span.length)
                column += span.length
        return {
            "input_ids": torch.from_numpy(ids),
            "labels": torch.from_numpy(labels),
            "positions": torch.from_numpy(positions),
        }

    def documents(self) -> Iterator[np.ndarray]:
        """The ids of each document as it was written, without the end."""
        return (self._tokens(number, 0, int(length) - 1) for number, length in enumerate(self._lengths))

    def origins(self, documents: Sequence[int]) -> list[dict[str, str]]:
        """Where some documents come from. Raises DataError when the token files do not say."""
        return origins_of(self.folder, documents)

    def spans(self, cursor: int) -> Iterator[Span]:
        """Which tokens of which documents make up sequence `cursor`, in order."""
        return self._packed_spans(cursor)

    def _packed_spans(self, cursor: int) -> Iterator[Span]:
        """The tokens [cursor · L, (cursor + 1) · L) of the stream."""
        place, missing = cursor * self.seq_len, self.seq_len
        while missing:
            epoch, offset = divmod(place, self._stream_tokens)
            pieces = self._pieces(epoch)
            rank = int(np.searchsorted(pieces.ends, offset, side="right"))
            left = int(pieces.ends[rank] - offset)
            length = min(left, missing)
            yield Span(int(pieces.documents[rank]), int(pieces.stops[rank]) - left, length)
            place, missing = place + length, missing - length

    def tokens(self, span: Span) -> np.ndarray:
        """The ids of a span."""
        return self._tokens(*span)

    def _tokens(self, document: int, start: int, length: int) -> np.ndarray:
        """At most `length` tokens of a document: fewer where it ends."""
        first = int(self._starts[document])
        shard = int(np.searchsorted(self._shard_starts, first, side="right")) - 1
        end = min(start + length, int(self._lengths[document]))
        base = first - int(self._shard_starts[shard])
        return self._shards[shard][base + start : base + end]

    def _shuffled(self, epoch: int) -> Pieces:
        """The documents in this epoch's order."""
        # RandomState, not default_rng: NumPy freezes its streams forever, so a resumed run finds the same order
        order = np.random.RandomState([self.seed % 2**32, epoch]).permutation(self.num_documents)
        return Pieces(order, self._lengths[order], np.cumsum(self._lengths[order]))

    def _map(self, number: int, size: int) -> np.ndarray:
        path = self.folder / _shard_name(number)
        if not path.exists() or path.stat().st_size != size * TOKEN.itemsize:
            raise DataError(tr("{path} is missing or incomplete; write the token files again", path=path))
        return np.memmap(path, dtype=TOKEN, mode="r")


def _shard_name(number: int) -> str:
    return f"tokens-{number:05d}.bin"
