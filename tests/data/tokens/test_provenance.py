"""Origins: a row for every document of the token files, in their order, whatever was left out."""

import pytest

from qianwen.data.tokens import provenance as origins
from qianwen.data.tokens.pack import PackedDataset, tokenized_documents, write_tokens
from qianwen.data.tokens.provenance import ORIGINS, Tokens, origins_of
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import verify_folder, write_jsonl


def document(number: int) -> dict[str, str]:
    return {"text": "x" * number, "source": f"web:{number}", "lang": "en", "licence": "CC0-1.0", "kind": "web"}


def test_documents_without_tokens_have_no_row(tmp_path, monkeypatch):
    monkeypatch.setattr(origins, "ROWS", 3)
    written = [Tokens([7] * (number % 4), document(number)) for number in range(20)]
    write_tokens(written, tmp_path / "tokens", 99)
    verify_folder(tmp_path / "tokens")
    sources = [f"web:{number}" for number in range(20) if number % 4]
    assert PackedDataset(tmp_path / "tokens", 4).num_documents == len(sources) == 15
    found = origins_of(tmp_path / "tokens", [14, 0, 7, 0])
    assert [row["source"] for row in found] == [sources[14], sources[0], sources[7], sources[0]]
    assert found[0].keys() == {*origins.COLUMNS} and found[0]["licence"] == "CC0-1.0" and found[0]["passed"] == ""


def test_without_documents_there_is_no_file_and_a_clear_error(tmp_path):
    write_tokens([[1, 2]], tmp_path / "tokens", 99)
    assert not (tmp_path / "tokens" / ORIGINS).exists()
    with pytest.raises(DataError, match="has no record of the sources of its documents"):
        origins_of(tmp_path / "tokens", [0])


def test_what_a_curation_says_of_a_document_comes_along(tmp_path):
    rows = [document(number) | {"passed": "gopher, c4"} for number in range(1, 4)]
    write_jsonl(tmp_path / "a.jsonl", rows)
    found = tokenized_documents(tmp_path / "a.jsonl", lambda texts: [[len(text)] for text in texts])
    write_tokens(found, tmp_path / "tokens", 99)
    assert [row["passed"] for row in origins_of(tmp_path / "tokens", range(3))] == ["gopher, c4"] * 3
