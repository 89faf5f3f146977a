"""Token files and packed sequences: nothing lost, nothing doubled, nothing predicted across a document's end."""

import collections

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.tokens.pack import IGNORED, PackedDataset, write_tokens
from qianwen.runtime.errors import DataError

EOD = 99


@pytest.fixture
def folder(tmp_path):
    documents = [[i * 10 + j for j in range(1 + i % 7)] for i in range(20)]
    assert write_tokens(documents, tmp_path / "tokens", EOD, shard_tokens=16) == {
        "num_documents": 20,
        "num_tokens": sum(map(len, documents)) + 20,
    }
    return tmp_path / "tokens"


def test_every_token_is_an_input_once_per_epoch(folder):
    dataset = PackedDataset(folder, seq_len=1, seed=3)
    stored = collections.Counter(np.concatenate([np.fromfile(f, "<u4") for f in folder.glob("tokens-*.bin")]))
    for epoch in range(2):
        ids = dataset.batch(epoch * dataset.num_tokens, dataset.num_tokens)["input_ids"]
        assert collections.Counter(ids.flatten().tolist()) == stored


@settings(max_examples=50, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=12).filter(any),
    seq_len=st.integers(1, 17),
    seed=st.integers(0, 2**40),
)
def test_labels_and_positions_follow_the_documents(tmp_path_factory, lengths, seq_len, seed):
    folder = tmp_path_factory.mktemp("pack") / "tokens"
    documents = [[1000 * (i + 1) + j for j in range(length)] for i, length in enumerate(lengths)]
    write_tokens(documents, folder, EOD, shard_tokens=10)
    dataset = PackedDataset(folder, seq_len, seed=seed)
    batch = dataset.batch(0, 2 * dataset.num_tokens // seq_len + 1)
    rows = zip(batch["input_ids"].tolist(), batch["labels"].tolist(), batch["positions"].tolist(), strict=True)
    for ids, labels, positions in rows:
        for column, (token, label, position) in enumerate(zip(ids, labels, positions, strict=True)):
            if token == EOD:
                assert label == IGNORED
            else:
                number, place = divmod(token, 1000)
                assert label == (token + 1 if place + 1 < lengths[number - 1] else EOD)
            starts = column == 0 or ids[column - 1] == EOD
            assert position == (0 if starts else positions[column - 1] + 1)


def test_a_cursor_is_the_whole_position(folder):
    dataset = PackedDataset(folder, seq_len=8, seed=1)
    whole = dataset.batch(0, 30)
    for cursor in (0, 7, 29):
        again = PackedDataset(folder, seq_len=8, seed=1).batch(cursor, 1)
        assert all(torch.equal(again[name][0], whole[name][cursor]) for name in whole)


def test_seeds_and_epochs_change_the_order(folder):
    def order(seed, epoch):
        dataset = PackedDataset(folder, seq_len=dataset_tokens, seed=seed)
        return [span.document for span in dataset.spans(epoch)]

    dataset_tokens = PackedDataset(folder, seq_len=1).num_tokens
    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(1, 0)
    assert order(0, 0) != order(0, 1)
    assert sorted(order(5, 4)) == list(range(20))


def test_spans_name_the_documents_of_a_sequence(folder):
    dataset = PackedDataset(folder, seq_len=11, seed=2)
    stored = [[i * 10 + j for j in range(1 + i % 7)] + [EOD] for i in range(20)]
    for cursor in range(12):
        spans = dataset.spans(cursor)
        told = [token for number, start, length in spans for token in stored[number][start : start + length]]
        assert dataset.batch(cursor, 1)["input_ids"][0].tolist() == told


def test_nothing_to_write_is_an_error_and_leaves_nothing(tmp_path):
    with pytest.raises(DataError, match="no document"):
        write_tokens([[], []], tmp_path / "tokens", EOD)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_source_leaves_the_old_files(folder):
    before = PackedDataset(folder, seq_len=4).fingerprint

    def broken():
        yield [1, 2]
        raise DataError("line 7 is not UTF-8")

    with pytest.raises(DataError, match="line 7"):
        write_tokens(broken(), folder, EOD)
    assert PackedDataset(folder, seq_len=4).fingerprint == before


def test_torn_and_missing_files_are_named(folder):
    with pytest.raises(DataError, match="no token files"):
        PackedDataset(folder.parent, seq_len=4)
    shard = folder / "tokens-00001.bin"
    shard.write_bytes(shard.read_bytes()[:-4])
    with pytest.raises(DataError, match="tokens-00001.bin is missing or incomplete"):
        PackedDataset(folder, seq_len=4)
    with pytest.raises(OverflowError):
        write_tokens([[-1]], folder.parent / "negative", EOD)
