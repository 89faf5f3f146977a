"""Dataset cards: true to the counts, safe in a table, and no document of their corpus."""

from pathlib import Path

import pytest

from qianwen.data.curate.dataset_card import curation_card, fetched_card, table, write_card
from qianwen.data.curate.input_parts import plan
from qianwen.data.documents.readers import read_documents
from qianwen.data.documents.sources import Fetched
from qianwen.runtime.files import atomic_folder, write_jsonl


def test_empty_facts_and_sections_are_left_out(tmp_path: Path) -> None:
    write_card(tmp_path / "README.md", "Mine", {"license": ["CC0-1.0"], "language": []}, {"A": "text", "B": " "})
    said = (tmp_path / "README.md").read_text()
    assert said.startswith('---\nlicense: ["CC0-1.0"]\n---\n') and "# Mine" in said
    assert "## A" in said and "## B" not in said and "language" not in said


def test_a_cell_stays_a_cell() -> None:
    (line,) = table(["a"], [["x | y\nz <script>"]]).splitlines()[2:]
    assert line == r"| x \| y z &lt;script> |"


def test_a_card_is_no_document_but_a_readme_is(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "corpus") as folder:
        write_jsonl(folder / "a.jsonl", [{"text": "one"}])
        fetched_card(folder, "corpus", [Fetched("a", "Some text", "CC0-1.0", 1, 9, "ab" * 32)])
    said = (tmp_path / "corpus" / "README.md").read_text()
    assert "| a | Some text | CC0-1.0 | 1 | 9 | abab" in said and 'license: ["CC0-1.0"]' in said
    assert [found["text"] for found in read_documents(tmp_path / "corpus")] == ["one"]
    assert [one.name for part in plan([str(tmp_path / "corpus")]) for one in part] == ["a.jsonl"]
    (tmp_path / "corpus" / "manifest.json").unlink()
    assert len(list(read_documents(tmp_path / "corpus"))) == 2
    assert [one.name for part in plan([str(tmp_path / "corpus")]) for one in part] == ["README.md", "a.jsonl"]


def cell(kept: int, size: int) -> dict[str, int]:
    return {"documents": 9, "bytes": 99, "passed": 9, "kept": kept, "kept_bytes": size}


def test_the_card_of_a_curation_says_what_was_done(tmp_path: Path) -> None:
    counts = {
        "read": 2000,
        "kept": {"documents": 1500, "bytes": 123_456},
        "dropped": {"read": {"not_json": 3}, "rules": {"gopher_symbols": 4000}},
        "by_corpus": {"letters": cell(12, 3456), "empty": cell(0, 0)},
        "by_licence": {"CC0-1.0": cell(13, 4567), "GPL-3.0": cell(0, 0)},
        "by_lang": {"fr": cell(14, 5678), "de": cell(0, 0)},
        "personal": {"EMAIL": 4100, "PHONE": 2},
        "benchmarks": {"texts": 1319, "too_short": 17, "found": 3},
    }
    curation_card(tmp_path, counts, "gopher, duplicates 0.8")
    head, *sections = (tmp_path / "README.md").read_text().split("\n## ")
    assert 'license: ["CC0-1.0"]\nlanguage: ["fr"]\nsize_categories: ["1K<n<10K"]\n' in head
    body = {title: text.strip() for title, _, text in (section.partition("\n") for section in sections)}
    assert body["Description"] == "1,500 documents, 123,456 bytes of text, of 2,000 that were read."
    assert body["Sources"].splitlines()[2:] == ["| letters | 12 | 3,456 |"]
    assert body["Licences"].splitlines()[2:] == ["| CC0-1.0 | 13 | 4,567 |"]
    assert body["Languages"].splitlines()[2:] == ["| fr | 14 | 5,678 |"]
    assert body["Filters"] == "Filters that every document passed: gopher, duplicates 0.8."
    rows = ["| read | not JSON in UTF-8 | 3 |", "| rules | gopher_symbols | 4,000 |"]
    assert body["What was dropped"].splitlines()[2:] == rows
    assert "4,100 × EMAIL, 2 × PHONE" in body["Personal data"]
    assert "1,319" in body["Benchmarks"] and "17 were too short" in body["Benchmarks"]
    assert "noai" in body["Opting out"] and "blocklist" in body["Opting out"]


@pytest.mark.parametrize(
    ("documents", "category"), [(999, "n<1K"), (1000, "1K<n<10K"), (10**9 - 1, "100M<n<1B"), (10**9, "n>1B")]
)
def test_the_size_is_said_in_the_words_of_the_hub(tmp_path: Path, documents: int, category: str) -> None:
    empty = dict.fromkeys(("dropped", "by_corpus", "by_licence", "by_lang", "personal"), {})
    counts = empty | {"read": documents, "kept": {"documents": documents, "bytes": 1}}
    curation_card(tmp_path, counts | {"benchmarks": {"texts": 0, "too_short": 0, "found": 0}}, "")
    assert f'size_categories: ["{category}"]' in (tmp_path / "README.md").read_text()
