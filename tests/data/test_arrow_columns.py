"""Arrow columns without pandas: what comes back is what went in, and pandas stays out."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from qianwen.data import arrow_columns


@settings(deadline=None)  # pyarrow imports pandas at its first list
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=30))
def test_texts_are_those_of_pyarrow(texts: list[str]) -> None:
    made = arrow_columns.from_texts(texts)
    made.validate(full=True)
    assert made.equals(pa.array(texts, pa.string()))


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        arrow_columns.from_texts(["\ud800"])


@pytest.mark.parametrize("dtype", ["uint64", "int32", "int64", "float32"])
def test_numbers_come_back_from_any_layout(dtype: str) -> None:
    table = np.arange(12, dtype=dtype).reshape(6, 2)
    made = arrow_columns.from_numbers(table[:, 1])  # every other number
    made.validate(full=True)
    assert made.to_pylist() == table[:, 1].tolist()
    parts = pa.chunked_array([made[1:3], made[3:3], made[3:]])
    assert arrow_columns.values(parts).tolist() == table[1:, 1].tolist()
    assert arrow_columns.values(pa.chunked_array([], made.type)).tolist() == []


def test_a_curation_leaves_pandas_alone(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = [f'{{"text": "The {animal} went home over the hill and slept until the morning."}}' for animal in "abcdef"]
    (tmp_path / "in" / "a.jsonl").write_text("\n".join([*rows, rows[0]]))
    program = (
        "import sys; from pathlib import Path\n"
        "from qianwen.data.curate.curation import curate; from qianwen.data.curate.filter_part import CurateConfig\n"
        "curate([sys.argv[1]], Path(sys.argv[2]), CurateConfig(rules=(), identify=False, scrub=False), workers=1)\n"
        "assert 'pandas' not in sys.modules\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "in"), str(tmp_path / "out")]
    subprocess.run(command, check=True, capture_output=True)
    names = ["text"]
    shard = next((tmp_path / "out" / "documents").glob("*.parquet"))
    assert arrow_columns.read(shard, names).equals(parquet.read_table(shard, columns=names))
    assert len(arrow_columns.read(shard, names)) == 6
