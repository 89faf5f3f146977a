"""From MinHash bands to clusters: candidate pairs to compare, and the connected components of the duplicate pairs.

Documents are numbered in the order of their content, not of their files, and all results depend only on these numbers.
So the clusters are the same for any shards in any order.

    candidates        pairs of documents that share a band
    components        labels in memory: 8 bytes a document, by hooking and pointer jumping (union-find without a loop)
    components_joined the same with joins, for edges larger than memory: large-star and small-star in turn
                      (Kiveris et al., 2014), through data/frames.py
"""

from collections import deque
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pyarrow as pa

from qianwen.data import frames

WINDOW = 32  # each document is compared with so many neighbours that share a band, and with the first one
THREADS = 2  # threads that search for pairs, each in one band


def candidates(band_columns: Iterable[np.ndarray]) -> np.ndarray:
    """Pairs (i < j) of documents [P, 2], each once; a column holds the hash of one band of every document."""
    found = np.zeros(0, dtype=np.uint64)
    waiting: deque[Future[np.ndarray]] = deque()
    with ThreadPoolExecutor(THREADS) as threads:  # threads help: NumPy releases the global lock while sorting
        for column in band_columns:
            waiting.append(threads.submit(_pairs, column))
            if len(waiting) > THREADS:  # limits the number of columns in memory
                found = np.union1d(found, waiting.popleft().result())
        for future in waiting:
            found = np.union1d(found, future.result())
    return np.stack([found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def _pairs(hashes: np.ndarray) -> np.ndarray:
    """i · 2^32 + j of documents with the same hash. All pairs up to 33 documents; of more, each with 32 neighbours and
    the first, so a phrase that everything shares costs no square.
    """
    if len(hashes) < 2:
        return np.zeros(0, dtype=np.uint64)
    order = np.argsort(hashes)
    ranked = hashes[order]
    same = ranked[1:] == ranked[:-1]
    keep = np.concatenate([same, [False]]) | np.concatenate([[False], same])  # most documents share nothing
    order, ranked = order[keep].astype(np.uint64), ranked[keep]
    order = order[np.lexsort((order, ranked))]  # a stable sort of all would take four times as long
    pairs = []
    for step in range(1, min(WINDOW, max(len(ranked) - 1, 0)) + 1):
        together = ranked[step:] == ranked[:-step]
        if not together.any():
            break
        pairs.append((order[:-step][together] << np.uint64(32)) | order[step:][together])
    else:
        start = np.flatnonzero(np.concatenate([[True], ranked[1:] != ranked[:-1]])) if len(ranked) else np.zeros(0, int)
        leader = order[np.repeat(start, np.diff(np.concatenate([start, [len(ranked)]])))] if len(ranked) else order
        far = np.flatnonzero(leader != order)
        pairs.append((leader[far] << np.uint64(32)) | order[far])
    return np.unique(np.concatenate(pairs)) if pairs else np.zeros(0, dtype=np.uint64)


def components(count: int, edges: np.ndarray) -> np.ndarray:
    """The least document that each of `count` documents hangs together with [count]; edges are pairs [E, 2]."""
    label = np.arange(count)
    left, right = edges[:, 0], edges[:, 1]
    while True:
        a, b = label[left], label[right]
        open_ = a != b
        if not open_.any():
            return label
        left, right, a, b = left[open_], right[open_], a[open_], b[open_]
        np.minimum.at(label, np.maximum(a, b), np.minimum(a, b))
        while (label[label] != label).any():
            label = label[label]


def components_joined(edges: np.ndarray) -> pa.Table:
    """`a`, each document that hangs together with a lesser one, and `b`, the least such; by group and join alone."""
    table = pa.table({"a": pa.array(edges[:, 0], pa.int64()), "b": pa.array(edges[:, 1], pa.int64())})
    graph, before = frames.distinct(frames.frame(table)), None
    while before != (before := frames.count_and_sum(graph, "b")):
        graph = frames.compute(_star(_star(graph, small=False), small=True))
    return frames.to_table(frames.select(graph, a="a", b="b"))


def _star(graph: frames.Frame, *, small: bool) -> frames.Frame:
    """Link to the least of a neighbourhood the neighbours above its centre (large), or those below and it (small)."""
    both = frames.distinct(graph, frames.select(graph, a="b", b="a"))
    if small:
        down = frames.compare(both, "b", "<", "a")  # a: centre, b: a smaller neighbour
        least = frames.select(frames.group_min(down, "a", "b"), a="a", least="b")
        joined = frames.join(down, least, "a")
        links = frames.select(joined, a="b", b="least")
        centres = frames.select(joined, a="a", b="least")
        return frames.distinct(frames.compare(links, "b", "!=", "a"), centres)
    centre = frames.select(frames.group_min(both, "a", "b"), a="a", lowest="b")
    joined = frames.join(frames.compare(both, "b", ">", "a"), centre, "a")
    own = frames.select(frames.compare(joined, "a", "<", "lowest"), a="b", b="a")  # the centre itself is the least
    other = frames.select(frames.compare(joined, "lowest", "<", "a"), a="b", b="lowest")
    return frames.distinct(own, other)
