"""Duplicate documents, in one corpus or across all of them (Qwen report, section 2.1).

    exact    the same after normalisation: texts that differ only in case, spacing and Unicode form
    address  the same web page, downloaded twice
    near     the same words, or a high similarity of shingles (`minhash.py`); a connected component of such pairs is a
             cluster (`duplicate_clusters.py`), and one document of it is kept

`without_duplicates` removes exact duplicates from a stream. `find_duplicates` finds all three kinds in a corpus, given
the keys of its documents. The kept document depends only on content, not on the order of files: the one with the most
words, then the smallest fingerprint.
"""

import hashlib
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from qianwen.data.curate.duplicate_clusters import candidates, components, components_joined
from qianwen.data.curate.minhash import MinHashConfig, likeness
from qianwen.data.documents.document import Document, Rejected
from qianwen.data.documents.drop_reasons import DropReason

IN_MEMORY = 100_000_000  # maximum pairs to cluster in memory; more are clustered by joins
EXACT, ADDRESS, NEAR = 1, 2, 3
PLAIN = bytes(32 if chr(code).isspace() else ord(chr(code).lower()) for code in range(128)) + bytes(128)  # of ASCII


def fingerprint(text: str) -> bytes:
    """A hash of 16 bytes that is equal for texts that are equal after normalisation."""
    if not text.isascii():
        plain = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).encode("utf-8")
    else:  # ASCII: the same result without creating an object for every word
        plain = text.encode("ascii").translate(PLAIN)
        while b"  " in plain:
            plain = plain.replace(b"  ", b" ")
        plain = plain.strip(b" ")
    return hashlib.blake2b(plain, digest_size=16).digest()


def without_duplicates(documents: Iterable[Document | Rejected]) -> Iterator[Document | Rejected]:
    """The documents, each repeated one turned into `Rejected` naming the first."""
    sources: dict[bytes, str] = {}
    for document in documents:
        if not isinstance(document, Rejected):
            mark, source = fingerprint(document["text"]), document["source"]
            if mark in sources:
                document = Rejected(source, 0, DropReason.DUPLICATE, sources[mark])
            else:
                sources[mark] = source
        yield document


@dataclass(frozen=True)
class Keys:
    """What is known of each of N documents, in any order."""

    fingerprints: np.ndarray  # uint64 [N, 2]
    text_hashes: np.ndarray  # uint64 [N], of the very text and its source
    addresses: np.ndarray  # uint64 [N], of its URL; 0 for none
    word_keys: np.ndarray  # uint64 [N], of its words in their order
    num_words: np.ndarray  # int64 [N]


@dataclass(frozen=True)
class Duplicates:
    """`representatives[d]` is the document that stays for d, d itself if it stays.

    `kinds[d]` is 0 for a document that stays, else EXACT, ADDRESS or NEAR.
    """

    representatives: np.ndarray
    kinds: np.ndarray
    num_candidates: int
    num_pairs: int


def find_duplicates(
    keys: Keys,
    band: Callable[[int], np.ndarray],
    sets: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]],
    config: MinHashConfig,
    *,
    in_memory: int = IN_MEMORY,
) -> Duplicates:
    """Which documents to drop, and which document stays for each.

    `band(k)` gives the hash of band k of every document [N]; `sets(documents)` the shingle sets of some documents,
    where each begins among them, and how large it is, as `minhash.likeness` wants them.
    """
    order = np.lexsort((keys.text_hashes, keys.fingerprints[:, 1], keys.fingerprints[:, 0]))  # of content
    count = len(order)
    words = keys.num_words[order]
    representatives, kinds = np.arange(count), np.zeros(count, dtype=np.uint8)

    def drop(group: np.ndarray, kind: int) -> None:
        best = _best(group, words)
        loses = (best != np.arange(count)) & (kinds == 0)
        representatives[loses], kinds[loses] = best[loses], kind

    marks = keys.fingerprints[order]
    new = np.concatenate([[True], (marks[1:] != marks[:-1]).any(axis=1)]) if count else np.zeros(0, dtype=bool)
    drop(np.flatnonzero(new)[np.cumsum(new) - 1], EXACT)
    drop(_same(keys.addresses[order], (kinds == 0) & (keys.addresses[order] != 0)), ADDRESS)
    remaining = np.flatnonzero((kinds == 0) & (words > 0))
    alike = _same(keys.word_keys[order], (kinds == 0) & (words > 0))
    first = remaining[alike[remaining] == remaining]  # of documents of the same words one is compared
    pairs = first[candidates(band(number)[order[first]] for number in range(config.num_bands))]
    close = pairs[_alike(pairs, lambda chosen: sets(order[chosen]), config.threshold)]
    same = np.stack([alike[remaining], remaining], axis=1)
    edges = np.concatenate([close, same[same[:, 0] != same[:, 1]]])
    drop(_clusters(count, edges, in_memory), NEAR)
    while (
        representatives[representatives] != representatives
    ).any():  # one kept for an address may be a near duplicate
        representatives = representatives[representatives]
    back = np.empty(count, dtype=np.int64)
    back[order] = np.arange(count)
    return Duplicates(order[representatives][back], kinds[back], len(pairs), len(edges))


def _alike(
    pairs: np.ndarray, sets: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]], threshold: float
) -> np.ndarray:
    """Which pairs are as like as the threshold, by their shingles."""
    if not len(pairs):
        return np.zeros(0, dtype=bool)
    documents, place = np.unique(pairs, return_inverse=True)
    return likeness(place.reshape(pairs.shape), *sets(documents)) >= threshold


def _clusters(count: int, edges: np.ndarray, in_memory: int) -> np.ndarray:
    """The least document of each document's cluster."""
    if len(edges) <= in_memory:
        return components(count, edges)
    label = np.arange(count)
    joined = components_joined(edges)
    label[joined["a"].to_numpy()] = joined["b"].to_numpy()
    return label


def _same(values: np.ndarray, among: np.ndarray) -> np.ndarray:
    """For each document the first one of the same value among some; itself for the others."""
    group = np.arange(len(values))
    chosen = np.flatnonzero(among)
    _, first, inverse = np.unique(values[chosen], return_index=True, return_inverse=True)
    group[chosen] = chosen[first[inverse]]
    return group


def _best(group: np.ndarray, words: np.ndarray) -> np.ndarray:
    """For each document the one of its group with most words, the first of several."""
    order = np.lexsort((np.arange(len(group)), -words, group))
    ranked = group[order]
    start = np.concatenate([[True], ranked[1:] != ranked[:-1]]) if len(group) else np.zeros(0, dtype=bool)
    best = np.empty_like(group)
    best[order] = order[np.flatnonzero(start)][np.cumsum(start) - 1]
    return best
