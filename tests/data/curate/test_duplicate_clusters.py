"""What hangs together, by labels and by joins."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.curate.duplicate_clusters import WINDOW, candidates, components, components_joined

EDGES = st.lists(st.tuples(st.integers(0, 19), st.integers(0, 19)), max_size=30)


def naive(count: int, edges: list[tuple[int, int]]) -> list[int]:
    label = list(range(count))
    for _ in range(count):
        for a, b in edges:
            label[a] = label[b] = min(label[a], label[b])
    return label


def array(edges: list[tuple[int, int]]) -> np.ndarray:
    return np.array(edges, dtype=np.int64).reshape(-1, 2)


@given(EDGES)
def test_components_are_those_of_the_graph(edges: list[tuple[int, int]]) -> None:
    assert components(20, array(edges)).tolist() == naive(20, edges)


@settings(max_examples=5, deadline=None)
@given(EDGES.filter(bool))
def test_joins_find_the_same(edges: list[tuple[int, int]]) -> None:
    pytest.importorskip("daft", reason="Daft comes with the extra `data`")
    edges = [edge for edge in edges if edge[0] != edge[1]] or [(0, 1)]
    table = components_joined(array(edges)).to_pydict()
    label = list(range(20))
    for a, b in zip(table["a"], table["b"], strict=True):
        label[a] = b
    assert label == naive(20, edges)


def test_a_long_chain_is_one_cluster() -> None:
    order = np.random.RandomState(0).permutation(50_000)
    assert set(components(50_000, np.stack([order[:-1], order[1:]], axis=1)).tolist()) == {0}


def test_all_that_share_a_band_are_candidates_once() -> None:
    first = np.array([7, 1, 7, 2, 7], dtype=np.uint64)
    second = np.array([1, 1, 3, 4, 3], dtype=np.uint64)
    assert candidates([first, second]).tolist() == [[0, 1], [0, 2], [0, 4], [2, 4]]
    assert candidates([np.zeros(0, dtype=np.uint64)]).shape == (0, 2)


def test_a_band_that_everything_shares_costs_no_square() -> None:
    pairs = candidates([np.zeros(1000, dtype=np.uint64)])
    assert len(pairs) <= 1000 * (WINDOW + 1)
    assert set(components(1000, pairs).tolist()) == {0}
    assert {tuple(pair) for pair in pairs.tolist()} >= {(0, number) for number in range(1, 1000)}
