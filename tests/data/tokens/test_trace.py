"""Trace: the spans of a step are the tokens the step trained on, and each has its document."""

import numpy as np
import pytest

from qianwen.data.tokens.pack import PackedDataset, write_tokens
from qianwen.data.tokens.provenance import Tokens
from qianwen.data.tokens.trace import tokens_by, trace_step
from qianwen.runtime.errors import DataError

EOD = 999


@pytest.fixture
def dataset(tmp_path):
    documents = [
        Tokens([number] * (3 + number % 5), {"source": f"web:{number}", "lang": "en" if number % 2 else "zh"})
        for number in range(30)
    ]
    write_tokens(documents, tmp_path / "tokens", EOD, shard_tokens=40)
    return PackedDataset(tmp_path / "tokens", 8, seed=5)


@pytest.mark.parametrize("step", [1, 2, 9, 40])
def test_the_spans_are_what_the_step_saw(dataset, step):
    """Beyond one epoch, too; each token names the document it is of."""
    traced = trace_step(dataset, step, 4)
    seen = dataset.batch((step - 1) * 4, 4)["input_ids"].numpy()
    for sequence in range(4):
        spans = [one.ids for one in traced if one.sequence == sequence]
        assert np.concatenate(spans).tolist() == seen[sequence].tolist()
    for one in traced:
        assert {f"web:{token}" for token in one.ids.tolist() if token != EOD} <= {one.origin["source"]}
        assert one.start + len(one.ids) <= 3 + one.document % 5 + 1


def test_tokens_are_summed_by_what_is_asked(dataset):
    sums = tokens_by(trace_step(dataset, 1, 4), "lang")
    assert sum(sums.values()) == 32 and set(sums) == {("en",), ("zh",)}
    assert list(sums.values()) == sorted(sums.values(), reverse=True)


def test_token_files_without_origins_say_so(tmp_path):
    write_tokens([[1] * 50], tmp_path / "tokens", EOD)
    with pytest.raises(DataError, match="write the token files again"):
        trace_step(PackedDataset(tmp_path / "tokens", 8), 1, 2)
