from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.data.tokens.interleaving import BLOCK
from qianwen.data.tokens.mixture import (
    MixedDataset,
    domain_of,
    normalised,
    open_mixture,
    write_domains,
    write_weights,
)
from qianwen.data.tokens.pack import PackedDataset
from qianwen.data.tokens.trace import trace_step
from qianwen.runtime.errors import CheckpointError, ConfigError, DataError

EOD = 999


def document(kind: str, number: int, lang: str = "en") -> dict:
    return {"text": f"{kind} {number}", "source": f"{kind}:{number}", "lang": lang, "licence": "MIT", "kind": kind}


def encode_batch(texts: list[str]) -> list[list[int]]:
    """`code 7` is ten tokens of 100 + 7, `book 7` ten of 200 + 7."""
    return [[{"code": 100, "book": 200, "law": 300}[text.split()[0]] + int(text.split()[1])] * 10 for text in texts]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    documents = [document(kind, n) for n in range(60) for kind in ("code", "book", "law") if kind != "law" or n < 6]
    sizes = write_domains(iter(documents), tmp_path / "mix", ("kind",), encode_batch, EOD)
    assert sizes == {"book": 660, "code": 660, "law": 66}
    return tmp_path / "mix"


def test_natural_weights_are_the_first(folder: Path) -> None:
    assert open_mixture(folder, 11).weights == pytest.approx({"book": 660 / 1386, "code": 660 / 1386, "law": 66 / 1386})


def test_every_sequence_is_of_the_domain_its_place_names(folder: Path) -> None:
    mixed = open_mixture(folder, 11)
    base = {"code": 100, "book": 200, "law": 300}
    for cursor in range(200):
        ids = mixed.batch(cursor, 1)["input_ids"][0]
        assert (ids[:10] // 100 * 100 == base[mixed.place(cursor).domain]).all() and ids[10] == EOD


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0.01, 1), min_size=3, max_size=3), st.integers(1, 20_000))
def test_proportions_are_exact_at_every_length(folder_once: Path, weights: list[float], count: int) -> None:
    mixed = open_mixture(folder_once, 11)
    shares = dict(zip(("book", "code", "law"), (w / sum(weights) for w in weights), strict=True))
    mixed = MixedDataset(dict(zip(mixed.names, mixed.parts, strict=True)), shares)
    whole = count - count % BLOCK
    counts = Counter(mixed.place(cursor).domain for cursor in range(whole))
    assert all(abs(counts[name] - whole * share) <= len(shares) + 1 for name, share in shares.items())


@pytest.fixture(scope="session")
def folder_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("mixed") / "mix"
    write_domains(
        [document(k, n) for n in range(9) for k in ("code", "book", "law")], path, ("kind",), encode_batch, EOD
    )
    return path


def test_a_domain_is_read_in_its_own_order_and_again_when_it_ends(folder: Path) -> None:
    write_weights(folder.parent / "heavy", {"law": 0.5, "code": 0.5}, folder)
    mixed = open_mixture(folder.parent / "heavy", 11)
    law = [cursor for cursor in range(100) if mixed.place(cursor).domain == "law"]
    assert [mixed.place(cursor).sequence for cursor in law] == list(range(len(law)))
    alone = PackedDataset(folder / "law", 11)
    for number, cursor in enumerate(law):
        assert torch.equal(mixed.batch(cursor, 1)["input_ids"], alone.batch(number, 1)["input_ids"])
    assert len(law) > 6 * 5  # six documents, over and over


def test_a_cursor_needs_nothing_that_came_before_it(folder: Path) -> None:
    one, other = open_mixture(folder, 11, seed=3), open_mixture(folder, 11, seed=3)
    rows = torch.cat([one.batch(cursor, 1)["input_ids"] for cursor in range(600)])
    for cursor in (599, 17, 300):
        assert torch.equal(other.batch(cursor, 1)["input_ids"][0], rows[cursor])
    assert not torch.equal(open_mixture(folder, 11, seed=4).batch(0, 64)["input_ids"], rows[:64])


def test_spans_name_the_documents_behind_a_sequence(folder: Path) -> None:
    mixed = open_mixture(folder, 11)
    ends = np.cumsum([60, 60, 6])
    for cursor in range(50):
        (span,) = mixed.spans(cursor)
        assert mixed.names[int(np.searchsorted(ends, span.document, side="right"))] == mixed.place(cursor).domain


def test_a_step_on_a_mixture_is_traced_to_its_documents(folder: Path) -> None:
    mixed = open_mixture(folder, 11)
    for one in trace_step(mixed, 3, 4):
        kind, number = one.origin["source"].split(":")
        assert one.origin["kind"] == kind == mixed.place(8 + one.sequence).domain
        assert one.ids[:-1].tolist() == encode_batch([f"{kind} {number}"])[0] and one.ids[-1] == EOD


def test_weights_are_checked() -> None:
    assert normalised({"a": 2, "b": 6}, ["a", "b", "c"]) == {"a": 0.25, "b": 0.75, "c": 0}
    for weights, said in (({"d": 1}, "no domain d"), ({"a": -1}, "weight of a"), ({"a": 0}, "all weights are zero")):
        with pytest.raises(ConfigError, match=said):
            normalised(weights, ["a", "b"])


def test_damage_and_absence_are_told(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a mixture folder"):
        open_mixture(tmp_path, 11)
    with pytest.raises(DataError, match="one sequence needs"):
        open_mixture(folder, 500)
    (folder / "law" / "tokens-00000.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError):
        open_mixture(folder, 11)


def test_domains_may_be_told_apart_by_several_things(tmp_path: Path) -> None:
    assert domain_of(document("code", 1, "zh"), ("lang", "kind")) == "zh-code"
    assert domain_of(document("code", 1), ("source",)) == "code"
    with pytest.raises(ConfigError, match="defined by colour"):
        write_domains([document("code", 1)], tmp_path / "x", ("colour",), encode_batch, EOD)
    with pytest.raises(DataError):
        write_domains([], tmp_path / "x", ("kind",), encode_batch, EOD)
