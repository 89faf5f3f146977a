"""Sequences cut from long documents: one document each, every cut once an epoch, and a share that is packed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.tokens.cuts import CutDataset, arranged
from qianwen.data.tokens.mixture import open_tokens, write_domains, write_weights
from qianwen.data.tokens.pack import IGNORED, PackedDataset, write_tokens
from qianwen.data.tokens.trace import trace_step
from qianwen.runtime.errors import ConfigError, DataError

EOD = 999_999
LENGTHS = [3, 70, 16, 9, 120, 33, 1, 15]  # without the end: the document of 15 has 16 tokens


def documents(lengths: list[int]) -> list[list[int]]:
    """The tokens of document 2 are 2000, 2001, …"""
    return [[1000 * number + place for place in range(length)] for number, length in enumerate(lengths)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tokens(documents(LENGTHS), tmp_path / "tokens", EOD, shard_tokens=50)
    return tmp_path / "tokens"


def rows(dataset: PackedDataset, count: int) -> dict[str, list[list[int]]]:
    return {name: values.tolist() for name, values in dataset.batch(0, count).items()}


def test_a_sequence_is_one_document_with_all_positions(folder):
    dataset = CutDataset(folder, 16)
    assert dataset.num_cuts == len(dataset) == 4 + 1 + 7 + 2 + 1 and dataset.num_long_documents == 5
    for ids, labels, positions in zip(*rows(dataset, 40).values(), strict=True):
        assert positions == list(range(16))
        number, first = divmod(ids[0], 1000)
        stored = [*documents(LENGTHS)[number], EOD, IGNORED]
        assert ids == stored[first : first + 16] and labels[:-1] == ids[1:]
        assert labels[-1] == stored[first + 16]


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=10),
    seq_len=st.integers(2, 12),
    seed=st.integers(0, 2**40),
)
def test_every_cut_is_used_once_an_epoch_and_packing_gets_the_rest(tmp_path_factory, lengths, seq_len, seed):
    folder = tmp_path_factory.mktemp("cuts") / "tokens"
    write_tokens(documents(lengths), folder, EOD)
    if max(lengths) + 1 < seq_len:
        with pytest.raises(DataError, match=f"longest document has {max(lengths) + 1} tokens"):
            CutDataset(folder, seq_len)
        return
    dataset = CutDataset(folder, seq_len, seed=seed)
    for epoch in range(2):
        spans = [span for number in range(len(dataset)) for span in dataset.spans(epoch * len(dataset) + number)]
        used = Counter((span.document, span.start + place) for span in spans for place in range(span.length))
        assert max(used.values()) == 1
        per_document = Counter(span.document for span in spans)
        assert per_document == {n: c for n, length in enumerate(lengths) if (c := (length + 1) // seq_len)}
        pieces = dataset._pieces(epoch)
        sizes = np.diff(pieces.ends, prepend=0)
        rest = Counter(
            (int(document), int(stop) - place - 1)
            for document, stop, size in zip(pieces.documents, pieces.stops, sizes, strict=True)
            for place in range(size)
        )
        everything = Counter((n, place) for n, length in enumerate(lengths) for place in range(length + 1))
        assert used + rest == everything


@pytest.mark.parametrize("share", [0.1, 0.25, 1 / 3, 0.9])
def test_the_packed_share_holds_at_every_length(folder, share):
    dataset = CutDataset(folder, 16, packed_share=share)
    is_packed = [len(list(dataset.spans(cursor))) > 1 for cursor in range(300)]  # all packed pieces are shorter
    for count in range(1, 300):
        assert abs(sum(is_packed[:count]) - share * count) <= 1
    packed = [cursor for cursor in range(300) if is_packed[cursor]]
    tokens = np.concatenate([np.concatenate([dataset.tokens(s) for s in dataset.spans(c)]) for c in packed])
    one_epoch = tokens[: dataset.num_tokens - 16 * dataset.num_cuts]
    assert set(range(0, 3)) | {6000} <= set(one_epoch.tolist()), "short documents are in every epoch of the packed ones"


def test_offsets_change_from_epoch_to_epoch_and_with_the_seed(folder):
    def starts(seed: int, epoch: int) -> set[tuple[int, int]]:
        dataset = CutDataset(folder, 16, seed=seed)
        cursors = range(epoch * len(dataset), (epoch + 1) * len(dataset))
        return {(span.document, span.start) for cursor in cursors for span in dataset.spans(cursor)}

    assert starts(0, 0) == starts(0, 0)
    assert starts(0, 0) != starts(0, 1) and starts(0, 0) != starts(1, 0)
    assert len({start for epoch in range(30) for document, start in starts(0, epoch) if document == 5}) > 3


def test_a_cursor_is_the_whole_position(folder):
    whole = CutDataset(folder, 16, seed=1, packed_share=0.3).batch(0, 60)
    for cursor in (0, 7, 59):
        again = CutDataset(folder, 16, seed=1, packed_share=0.3).batch(cursor, 1)
        assert all(torch.equal(again[name][0], whole[name][cursor]) for name in whole)


def test_a_share_of_one_is_ordinary_packing(folder):
    assert type(arranged(folder, 16)) is PackedDataset
    assert isinstance(arranged(folder, 16, packed_share=0.5), CutDataset)
    assert arranged(folder, 16).fingerprint == arranged(folder, 16, packed_share=0.5).fingerprint


@pytest.mark.parametrize("share", [-0.1, 1.5, float("nan")])
def test_a_share_is_between_zero_and_one(folder, share):
    with pytest.raises(ConfigError, match="packed_share"):
        arranged(folder, 16, packed_share=share)


def test_what_cannot_be_cut_or_packed_is_named(tmp_path, folder):
    with pytest.raises(DataError, match=r"longest document has 121 tokens.*1,024"):
        CutDataset(folder, 1024)
    write_tokens(documents([15, 31]), tmp_path / "even", EOD)
    assert len(CutDataset(tmp_path / "even", 16)) == 3
    assert (
        "2 of 2 documents have at least 16 tokens and give 3 sequences" in CutDataset(tmp_path / "even", 16).summary()
    )
    with pytest.raises(DataError, match="no tokens are left"):
        CutDataset(tmp_path / "even", 16, packed_share=0.1)


def test_a_mixture_is_cut_in_each_domain_and_traced(tmp_path):
    texts = {"code": (8, 1), "book": (60, 2), "law": (2, 3)}
    found = [
        {"text": f"{k} {n}", "source": f"{k}:{n}", "lang": "", "licence": "", "kind": k}
        for n in range(9)
        for k in texts
    ]

    def encode_batch(batch: list[str]) -> list[list[int]]:
        return [
            [texts[text.split()[0]][1] * 1000 + place for place in range(texts[text.split()[0]][0])] for text in batch
        ]

    write_domains(found, tmp_path / "mix", ("kind",), encode_batch, EOD)
    with pytest.raises(DataError, match="law: the longest document has 3 tokens"):
        open_tokens(tmp_path / "mix", 6, packed_share=0)
    write_weights(tmp_path / "two", {"code": 0.5, "book": 0.5, "law": 0.0}, tmp_path / "mix")
    mixed = open_tokens(tmp_path / "two", 6, packed_share=0)
    assert {tuple(row) for row in mixed.batch(0, 100)["positions"].tolist()} == {tuple(range(6))}
    traced = trace_step(mixed, 3, 4)
    assert len(traced) == 4 and {span.origin["kind"] for span in traced} <= {"code", "book"}
    assert all(span.ids[0] // 1000 == texts[span.origin["kind"]][1] for span in traced)
