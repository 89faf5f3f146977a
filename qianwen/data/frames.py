"""Tables larger than memory: joins and groups by Daft, on this machine or the Ray cluster of `worker_pool.use`.

A `Frame` is a table that is not computed yet; `to_table` computes it. `duplicate_clusters.py` clusters with them.
"""

from typing import Any

import pyarrow as pa

Frame = Any  # daft.DataFrame


def frame(table: pa.Table) -> Frame:
    """A table in memory as a Frame."""
    import daft

    return daft.from_arrow(table)


def join(left: Frame, right: Frame, on: str) -> Frame:
    """Every pair of rows with the same value in the column `on`."""
    return left.join(right, on=on)


def group_min(frame: Frame, by: str, column: str) -> Frame:
    """`by` and the smallest `column` for each of its values."""
    import daft

    return frame.groupby(by).agg(daft.col(column).min().alias(column))


def select(frame: Frame, **names: str) -> Frame:
    """Columns under new names: `select(edges, low="high", high="low")` reverses the edges."""
    import daft

    return frame.select(*[daft.col(old).alias(new) for new, old in names.items()])


def compare(frame: Frame, column: str, relation: str, second_column: str) -> Frame:
    """The rows in which `column` is "<", ">" or "!=" `second_column`."""
    import daft

    left, right = daft.col(column), daft.col(second_column)
    return frame.where({"<": left < right, ">": left > right, "!=": left != right}[relation])


def distinct(*frames: Frame) -> Frame:
    """The distinct rows of all frames."""
    union = frames[0]
    for frame in frames[1:]:
        union = union.concat(frame)
    return union.distinct()


def to_table(frame: Frame) -> pa.Table:
    """A Frame computed, in memory."""
    return frame.to_arrow()


def count_and_sum(frame: Frame, column: str) -> tuple[int, int]:
    """The number of rows and the sum of a column. If both stay the same, an iteration has converged."""
    import daft

    totals = frame.agg(daft.col(column).count().alias("rows"), daft.col(column).sum().alias("sum")).to_pydict()
    return totals["rows"][0], totals["sum"][0] or 0


def compute(frame: Frame) -> Frame:
    """Compute a Frame now, so that later frames that use it do not compute it again."""
    return frame.collect()
