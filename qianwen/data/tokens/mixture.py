"""Token files of several domains as one stream, in the proportions of a mixture (Qwen report, section 2.1).

    code/  book/  …     token files of each domain (`pack.py`), written in one pass over the documents
    mixture.json        {"weights": {"code": 0.2, …}, "domains": "."}: shares of the training sequences, and the
                        folder of the domains; another mixture of the same domains is such a file in its own folder

A domain with a weight above its natural share is repeated (each epoch is shuffled again); with a weight below, only a
part of it is read. The order is in `interleaving.py`.

B sequences, L = seq_len.
"""

import hashlib
import itertools
import json
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from qianwen.data.curate.corpus import corpus_of
from qianwen.data.documents.document import Document
from qianwen.data.tokens.cuts import arranged
from qianwen.data.tokens.interleaving import Interleaving
from qianwen.data.tokens.pack import INDEX, TOKEN, PackedDataset, Span, write_tokens
from qianwen.data.tokens.provenance import OriginsWriter, Tokens, origins_in
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_file, atomic_folder, verify_folder
from qianwen.runtime.translation import tr

MIXTURE = "mixture.json"
AT_ONCE = 256  # documents tokenised in one call
KEYS = ("source", "lang", "kind")


class Place(NamedTuple):
    """The position of a sequence: its domain, and its number there."""

    domain: str
    sequence: int  # of that domain, epoch after epoch


def domain_of(document: Document, by: Sequence[str]) -> str:
    """The domain of a document: `code`, or `zh-docs` by ("lang", "kind")."""
    values = {"source": corpus_of(document), "lang": document["lang"], "kind": document["kind"]}
    parts = [values[key] for key in by]
    return "-".join(part.replace("/", "_") for part in parts)


def write_domains(
    documents: Iterable[Document],
    folder: Path,
    by: Sequence[str],
    encode_batch: Callable[[list[str]], Iterable[Sequence[int]]],
    eod_id: int,
) -> dict[str, int]:
    """Write the token files of each domain below `folder`, with natural weights. Returns the tokens of each domain.

    Raises ConfigError for a key that is not in KEYS, DataError if there are no documents.
    """
    if unknown := set(by) - set(KEYS) or ({"nothing"} if not by else set()):
        raise ConfigError(
            tr("domains cannot be defined by {name}; choose from {known}", known=", ".join(KEYS), name=min(unknown))
        )
    # A document goes to the spool of its domain, so that one pass over the documents is enough for all domains.
    spools: dict[str, _Spool] = {}
    with atomic_folder(folder) as temporary:
        while batch := list(itertools.islice(documents := iter(documents), AT_ONCE)):
            for document, ids in zip(batch, encode_batch([one["text"] for one in batch]), strict=True):
                name = domain_of(document, by)
                if name not in spools:
                    spools[name] = _Spool(temporary / f"spool-{len(spools)}")
                spools[name].add(ids, document)
        if not spools:
            raise DataError(tr("the input contains no documents"))
        sizes = {}
        for name in sorted(spools):
            sizes[name] = write_tokens(spools[name].documents(), temporary / name, eod_id)["num_tokens"]
            spools[name].remove()
        weights = {name: size / sum(sizes.values()) for name, size in sizes.items()}
        mixture = {"weights": weights, "domains": ".", "tokens": sizes}
        (temporary / MIXTURE).write_text(json.dumps(mixture, indent=1), encoding="utf-8")
    return sizes


def write_weights(folder: Path, weights: Mapping[str, float], domains: Path) -> None:
    """Write a mixture of existing `domains` into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_file(folder / MIXTURE, "w") as file:
        json.dump({"weights": dict(weights), "domains": os.path.relpath(domains, folder)}, file, indent=1)


class MixedDataset:
    """Several `PackedDataset`s as one, with the same methods; `place` returns the domain of a sequence."""

    def __init__(self, parts: Mapping[str, PackedDataset], weights: Mapping[str, float], *, seed: int = 0) -> None:
        self.weights = normalised(weights, parts)
        self.names = [name for name in sorted(parts) if self.weights[name] > 0]
        self.parts = [parts[name] for name in self.names]
        self._shares = [self.weights[name] for name in self.names]
        self.seq_len, self.eod_id = self.parts[0].seq_len, self.parts[0].eod_id
        self.max_id = max(part.max_id for part in self.parts)
        self.num_tokens = sum(part.num_tokens for part in self.parts)
        self.epoch_tokens = sum(part.epoch_tokens for part in self.parts)
        self.num_documents = sum(part.num_documents for part in self.parts)
        self._first_document = np.cumsum([0, *(part.num_documents for part in self.parts)])
        prints = [f"{name} {self.weights[name]!r} {parts[name].fingerprint}" for name in self.names]
        self.fingerprint = hashlib.sha256("\n".join(prints).encode()).hexdigest()
        self._order = Interleaving(self._shares, seed=seed)

    def __len__(self) -> int:
        """The number of sequences after which every domain has been read at least once."""
        return int(max(len(part) / share for part, share in zip(self.parts, self._shares, strict=True)))

    def place(self, cursor: int) -> Place:
        """The domain of a sequence of the stream, and its number there."""
        domain, sequence = self._order.place(cursor)
        return Place(self.names[domain], sequence)

    def batch(self, cursor: int, micro_batch_size: int) -> dict[str, torch.Tensor]:
        """`input_ids`, `labels` and `positions` [B, L] of the sequences `cursor`, `cursor` + 1, …"""
        rows = []
        for row in range(micro_batch_size):
            domain, sequence = self._order.place(cursor + row)
            rows.append(self.parts[domain].batch(sequence, 1))
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def spans(self, cursor: int) -> Iterator[Span]:
        """The documents of a sequence; they are numbered through all domains, in the order of `names`."""
        domain, sequence = self._order.place(cursor)
        for span in self.parts[domain].spans(sequence):
            yield span._replace(document=span.document + int(self._first_document[domain]))

    def tokens(self, span: Span) -> np.ndarray:
        """The ids of a span."""
        domain = self._domain_of(span.document)
        return self.parts[domain].tokens(span._replace(document=span.document - int(self._first_document[domain])))

    def origins(self, documents: Sequence[int]) -> list[dict[str, str]]:
        """Where some documents come from. Raises DataError if the token files have no such record."""
        found = []
        for document in documents:
            domain = self._domain_of(document)
            found += self.parts[domain].origins([document - int(self._first_document[domain])])
        return found

    def _domain_of(self, document: int) -> int:
        return int(np.searchsorted(self._first_document, document, side="right")) - 1


def is_tokens(folder: Path) -> bool:
    """Whether a folder holds token files or a mixture."""
    return (folder / INDEX).exists() or (folder / MIXTURE).exists()


def open_tokens(
    folder: Path, seq_len: int, *, seed: int = 0, verify: bool = True, packed_share: float = 1.0
) -> PackedDataset | MixedDataset:
    """The token files of a folder, or its mixture. With `verify` all checksums are verified.

    If `packed_share` is below 1, the other sequences are cut from long documents (`cuts.py`), in each domain.
    """
    if (folder / MIXTURE).exists():
        return open_mixture(folder, seq_len, seed=seed, verify=verify, packed_share=packed_share)
    if verify:
        verify_folder(folder)
    return arranged(folder, seq_len, seed=seed, packed_share=packed_share)


def open_mixture(
    folder: Path, seq_len: int, *, seed: int = 0, verify: bool = True, packed_share: float = 1.0
) -> MixedDataset:
    """The domains of a folder in the proportions of its mixture."""
    try:
        mixture = json.loads((folder / MIXTURE).read_text(encoding="utf-8"))
        weights, domains = mixture["weights"], folder / mixture["domains"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(tr("{path} is not a mixture folder: {error}", path=folder / MIXTURE, error=error)) from error
    settings: dict[str, Any] = {"seed": seed, "verify": verify, "packed_share": packed_share}
    used = {name: weight for name, weight in weights.items() if weight != 0}
    parts = {name: open_domain(domains / name, seq_len, **settings) for name in used}
    return MixedDataset(parts, used, seed=seed)


def open_domain(
    folder: Path, seq_len: int, *, seed: int = 0, verify: bool = True, packed_share: float = 1.0
) -> PackedDataset:
    """The token files of one domain. Raises DataError if they are shorter than one sequence."""
    if verify:
        verify_folder(folder)
    part = arranged(folder, seq_len, seed=seed, packed_share=packed_share)
    if not len(part):
        message = tr(
            "{path} contains only {tokens} tokens; one sequence needs {seq_len}",
            path=folder,
            tokens=part.num_tokens,
            seq_len=seq_len,
        )
        raise DataError(message)
    return part


def normalised(weights: Mapping[str, float], domains: Iterable[str]) -> dict[str, float]:
    """Weights that sum to 1, zero for those not named. Raises ConfigError for an unknown name or a negative weight."""
    names = sorted(domains)
    for name, weight in weights.items():
        if name not in names:
            message = tr("there is no domain {name}; choose from {known}", name=name, known=", ".join(names))
            raise ConfigError(message)
        if not 0 <= weight < float("inf"):
            raise ConfigError(tr("the weight of {name} is {weight}: give 0 or more", name=name, weight=weight))
    total = sum(weights.values())
    if not total > 0:
        raise ConfigError(tr("all weights are zero; give at least one domain a weight above 0"))
    return {name: weights.get(name, 0.0) / total for name in names}


class _Spool:
    """Temporary file with the ids and origins of one domain's documents, until all documents have been read."""

    def __init__(self, path: Path) -> None:
        self.path, self._lengths = path, array("I")
        self._origins = OriginsWriter(path.with_suffix(".parquet"))
        self._waiting: list[np.ndarray] = []
        self._size = 0

    def add(self, ids: Sequence[int] | np.ndarray, document: Document) -> None:
        self._waiting.append(np.asarray(ids, dtype=TOKEN))
        self._lengths.append(len(ids))
        self._origins.add(document)
        self._size += len(ids)
        if self._size >= 1 << 20:
            self._flush()

    def documents(self) -> Iterator[Tokens]:
        self._flush()
        self._origins.close()
        tokens: Any = np.memmap(self.path, dtype=TOKEN, mode="r") if self.path.stat().st_size else np.zeros(0, TOKEN)
        lengths = np.asarray(self._lengths, dtype=np.int64)
        ends = np.cumsum(lengths)
        origins = origins_in(self.path.with_suffix(".parquet"))
        for start, end, origin in zip(ends - lengths, ends, origins, strict=True):
            yield Tokens(tokens[start:end], origin)

    def remove(self) -> None:
        self.path.unlink()
        self.path.with_suffix(".parquet").unlink()

    def _flush(self) -> None:
        with self.path.open("ab") as file:
            for ids in self._waiting:
                file.write(ids.tobytes())
        self._waiting, self._size = [], 0
