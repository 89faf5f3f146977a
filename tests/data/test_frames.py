"""Joins and groups, by Daft itself."""

import pyarrow as pa
import pytest

pytest.importorskip("daft", reason="Daft comes with the extra `data`")
from qianwen.data import frames


def test_frames_join_group_and_forget_repeats() -> None:
    edges = frames.frame(pa.table({"low": [1, 1, 2, 2], "high": [2, 3, 3, 3]}))
    turned = frames.select(edges, low="high", high="low")
    assert frames.to_table(frames.distinct(edges, edges)).num_rows == 3
    assert frames.to_table(frames.compare(turned, "low", "<", "high")).num_rows == 0
    least = frames.to_table(frames.group_min(turned, "low", "high")).to_pydict()
    assert dict(zip(least["low"], least["high"], strict=True)) == {2: 1, 3: 1}
    joined = frames.join(edges, frames.frame(pa.table({"low": [2], "name": ["two"]})), "low")
    assert frames.to_table(joined).to_pydict()["name"] == ["two", "two"]


def test_rows_are_counted_and_summed_also_of_a_frame_that_is_computed() -> None:
    frame = frames.compute(frames.frame(pa.table({"a": [1, 2, 3], "b": [5, 2, 4]})))
    assert frames.count_and_sum(frame, "a") == (3, 6)
    assert frames.count_and_sum(frames.compare(frame, "a", "!=", "b"), "b") == (2, 9)
    assert frames.count_and_sum(frames.compare(frame, "a", ">", "b"), "b") == (0, 0)
