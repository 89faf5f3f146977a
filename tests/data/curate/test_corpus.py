"""The corpus a run learns from: what is held out, what is left out, and when a stage is made again."""

import json
from pathlib import Path

import pytest

from qianwen.data.curate.corpus import CorpusConfig, build_corpus, chance, corpus_of, folder_hash, is_held_out, stage
from qianwen.data.documents.document import Document
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import read_jsonl, write_jsonl

PARTS = ("train", "held_out")
TEXTS = [f"document number {i} says {i * i}" for i in range(400)]


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    write_jsonl(folder / "a.jsonl", ({"text": text, "source": f"numbers:{i}"} for i, text in enumerate(TEXTS)))
    (folder / "b.txt").write_text("Document  NUMBER 7 says 49")
    (folder / "c.txt").write_bytes(b"%PDF-1.7")
    return folder


def build(inputs: Path, folder: Path, **config: object) -> dict:
    folder.mkdir()
    return build_corpus(inputs, folder, CorpusConfig(**config))  # type: ignore[arg-type]


def test_every_document_is_somewhere(inputs: Path, tmp_path: Path) -> None:
    counts = build(inputs, tmp_path / "out", held_out=0.1)
    parts = {name: [row["text"] for row in read_jsonl(tmp_path / "out" / name / "documents.jsonl")] for name in PARTS}
    assert sorted(parts["train"] + parts["held_out"]) == sorted(TEXTS)
    assert 20 <= len(parts["held_out"]) <= 60
    assert counts["rejected"] == {"duplicate": 1, "pdf": 1}
    assert counts["held_out"]["numbers"]["documents"] == len(parts["held_out"])
    assert (tmp_path / "out" / "held_out.txt").read_text() == "\n\n".join(parts["held_out"])
    assert json.loads((tmp_path / "out" / "counts.json").read_text()) == counts


def test_order_and_number_of_files_change_nothing(inputs: Path, tmp_path: Path) -> None:
    build(inputs, tmp_path / "one")
    other = tmp_path / "other"
    other.mkdir()
    for start in (0, 200):
        rows = ({"text": text} for text in reversed(TEXTS[start : start + 200]))
        write_jsonl(other / f"{start}.jsonl.gz", rows)
    build(other, tmp_path / "two")
    one, two = (
        {row["text"] for row in read_jsonl(tmp_path / n / "held_out" / "documents.jsonl")} for n in ("one", "two")
    )
    assert one == two


def test_shares_choose_apart_from_holding_out(inputs: Path, tmp_path: Path) -> None:
    counts = build(inputs, tmp_path / "out", held_out=0.2, shares={"numbers": 0.3})
    train, held_out = (counts[name]["numbers"]["documents"] for name in ("train", "held_out"))
    assert 80 <= train + held_out <= 160 and 0.1 <= held_out / (train + held_out) <= 0.3


def test_too_little_text_is_refused_with_what_was_left_out(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "c.txt").write_bytes(b"%PDF-1.7")
    with pytest.raises(DataError, match="c.txt, line 0: PDF or PostScript"):
        build(tmp_path / "in", tmp_path / "out")


def test_chance_is_even_and_blind_to_spelling() -> None:
    values = [chance(text, "any") for text in TEXTS]
    assert 0.45 < sum(values) / len(values) < 0.55 and min(values) >= 0 and max(values) < 1
    assert chance("A  b", "any") == chance("a B", "any") != chance("a b", "other")
    assert is_held_out("a", 1.0) and not is_held_out("a", 0.0)


def test_a_stage_is_made_once_and_again_when_something_changed(tmp_path: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(1)
        (folder / "out.txt").write_text(str(len(made)))

    target = tmp_path / "stage"
    assert stage(target, {"size": 1}, make) and not stage(target, {"size": 1}, make)
    before = folder_hash(target)
    assert stage(target, {"size": 2}, make) and folder_hash(target) != before
    (target / "out.txt").write_text("x")
    assert stage(target, {"size": 2}, make) and len(made) == 3


def test_a_failed_stage_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half.txt").write_text("half")
        raise DataError("torn")

    with pytest.raises(DataError, match="torn"):
        stage(tmp_path / "stage", {}, fail)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "corpus"),
    [("wiki:Bread", "wiki"), ("notes/a.md", "notes"), ("a.md", "docs"), ("a.md#2", "docs"), ("x/a.jsonl:7", "x")],
)
def test_a_document_knows_its_corpus(source: str, corpus: str) -> None:
    assert corpus_of(Document(text="", source=source, lang="", licence="", kind="docs")) == corpus


def test_code_can_be_reduced_to_its_documentation(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(40):
        (tmp_path / "in" / f"{i}.py").write_text(f'def f{i}(x):\n    """Return {i} of x."""\n    return secret{i}')
    (tmp_path / "in" / "a.js").write_text("function f() { return 1; }")
    (tmp_path / "in" / "bare.py").write_text("x = 1")
    counts = build(tmp_path / "in", tmp_path / "out", held_out=0.2, outline_code=True)
    texts = [row["text"] for name in PARTS for row in read_jsonl(tmp_path / "out" / name / "documents.jsonl")]
    assert len(texts) == 41 and not any("secret" in text for text in texts)
    assert "function f() { return 1; }" in texts and counts["rejected"] == {"no_docstrings": 1}
