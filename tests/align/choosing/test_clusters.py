import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.align.choosing.clusters import clusters


def unit(points):
    return points / np.linalg.norm(points, axis=1, keepdims=True)


def test_separate_groups_are_found_in_any_order():
    draw = np.random.default_rng(0)
    group = draw.permutation(np.repeat(np.arange(5), 40))
    points = unit(np.eye(16)[group] + 0.05 * draw.standard_normal((200, 16)))
    labels = clusters(points, 5, seed=1)
    assert len(set(zip(group.tolist(), labels.tolist(), strict=True))) == 5 == len(set(labels.tolist()))


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 5))
@settings(max_examples=30, deadline=None)
def test_every_point_has_a_cluster_and_the_seed_decides(num_clusters, size, seed):
    points = unit(np.random.default_rng(seed).standard_normal((size, 4)))
    labels = clusters(points, num_clusters, seed)
    assert labels.shape == (size,) and labels.min() >= 0 and labels.max() < num_clusters
    assert np.array_equal(labels, clusters(points.copy(), num_clusters, seed))


def test_equal_points_are_one_cluster():
    assert set(clusters(np.tile(unit(np.ones((1, 8))), (9, 1)), 4)) == {0}
