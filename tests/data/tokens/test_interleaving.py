"""Several streams as one: exact proportions, every sequence as often as any other, no memory."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.data.tokens.interleaving import Interleaving

SHARES = st.lists(st.integers(1, 20), min_size=1, max_size=5).map(lambda parts: [part / sum(parts) for part in parts])


@given(shares=SHARES, block=st.sampled_from([4, 16, 256]), blocks=st.integers(1, 6), seed=st.integers(0, 9))
def test_proportions_are_exact_after_every_block(shares, block, blocks, seed):
    order = Interleaving(shares, seed=seed, block=block)
    count = blocks * block
    streams = Counter(order.place(cursor)[0] for cursor in range(count))
    for stream, share in enumerate(shares):
        assert abs(streams[stream] - share * count) <= len(shares)


@given(shares=SHARES, count=st.integers(1, 300), block=st.sampled_from([4, 16, 256]))
def test_the_sequences_of_a_stream_come_in_order_without_a_gap(shares, count, block):
    order = Interleaving(shares, block=block)
    numbers: dict[int, list[int]] = {}
    for cursor in range(count):
        stream, number = order.place(cursor)
        numbers.setdefault(stream, []).append(number)
    assert all(found == list(range(len(found))) for found in numbers.values())


@given(shares=SHARES, cursor=st.integers(0, 5000))
def test_a_place_needs_nothing_that_came_before_it(shares, cursor):
    used = Interleaving(shares, seed=3, block=16)
    for before in range(0, cursor, 97):
        used.place(before)
    assert used.place(cursor) == Interleaving(shares, seed=3, block=16).place(cursor)


def test_seeds_have_other_orders():
    orders = [[Interleaving([0.5, 0.5], seed=seed).place(cursor)[0] for cursor in range(64)] for seed in (0, 1)]
    assert orders[0] != orders[1] and sum(orders[0]) == pytest.approx(32, abs=12)
