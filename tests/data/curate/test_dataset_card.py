"""Dataset cards: true to the counts, safe in a table, and no document of their corpus."""

from pathlib import Path

from qianwen.data.curate.dataset_card import fetched_card, table, write_card
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
