"""Clusters of embeddings of norm 1: k-means by the angle, started by k-means++ (Arthur and Vassilvitskii, 2007).

N texts, H the size of an embedding, K clusters.
"""

import numpy as np

MAX_ROUNDS = 50


def clusters(embeddings: np.ndarray, num_clusters: int, seed: int = 0) -> np.ndarray:
    """The number of the cluster of each embedding [N, H], int64 [N]. Fewer than K clusters if fewer texts differ."""
    points = embeddings.astype(np.float64)
    centres = _first_centres(points, num_clusters, np.random.default_rng(seed))
    nearest = np.argmax(points @ centres.T, axis=1)
    for _ in range(MAX_ROUNDS):
        sums = np.zeros_like(centres)
        np.add.at(sums, nearest, points)
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.maximum(lengths, 1e-12), centres)  # an empty cluster stays in place
        before, nearest = nearest, np.argmax(points @ centres.T, axis=1)
        if np.array_equal(before, nearest):
            break
    return nearest


def _first_centres(points: np.ndarray, num_clusters: int, draw: np.random.Generator) -> np.ndarray:
    """Points [K, H] far from each other: each is drawn with probability proportional to its squared distance."""
    chosen = [int(draw.integers(len(points)))]
    distance = _distances(points, points[chosen[0]])
    while len(chosen) < num_clusters and distance.sum() > 0:
        chosen.append(int(draw.choice(len(points), p=distance / distance.sum())))
        distance = np.minimum(distance, _distances(points, points[chosen[-1]]))
    return points[chosen]


def _distances(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """Squared distances [N] of points of norm 1; rounding errors count as 0."""
    squared = 2 - 2 * points @ centre
    return np.where(squared > 1e-9, squared, 0)
