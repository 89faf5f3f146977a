"""Every way a file can be a corpus, and every way it can fail to be one."""

import gzip
import json
import sys
from pathlib import Path

import pyarrow
import pytest
import zstandard
from pyarrow import parquet

from qianwen.data.documents import record_files, text_files
from qianwen.data.documents.document import Rejected, clean
from qianwen.data.documents.readers import read_documents, readable_documents
from qianwen.data.documents.text_files import cut
from qianwen.runtime.errors import DataError

LINE = json.dumps({"text": "猫很好。"}, ensure_ascii=False).encode() + b"\n"


def texts(path: Path) -> list[str]:
    return [found["text"] for found in read_documents(path) if not isinstance(found, Rejected)]


def rejected(path: Path) -> list[tuple[str, int, str]]:
    return [(found.file, found.line, found.reason) for found in read_documents(path) if isinstance(found, Rejected)]


def test_every_format_in_one_folder(tmp_path: Path) -> None:
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "a.md").write_text("# Title\r\n\r\nText.\r\n", newline="")
    (tmp_path / "b.py").write_text("x = 1\n")
    (tmp_path / "c.jsonl").write_bytes(LINE)
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"content": "gz"}\n\n{"text": "two", "license": "MIT"}'))
    (tmp_path / "e.jsonl.zst").write_bytes(zstandard.compress(b'{"text": "zst", "lang": "fr", "kind": "book"}\n'))
    (tmp_path / "g.txt.gz").write_bytes(gzip.compress(b"packed"))
    (tmp_path / ".hidden.txt").write_text("never read")
    parquet.write_table(pyarrow.table({"text": ["p", "q"], "lang": ["en", None]}), tmp_path / "f.parquet")
    found = {found["source"]: found for found in read_documents(tmp_path) if not isinstance(found, Rejected)}
    assert texts(tmp_path) == ["x = 1", "猫很好。", "gz", "two", "zst", "p", "q", "packed", "# Title\n\nText."]
    assert found["b.py"]["kind"] == "code" and found["notes/a.md"]["kind"] == "docs"
    assert found["e.jsonl.zst:1"]["lang"] == "fr" and found["d.jsonl.gz:3"]["licence"] == "MIT"


def test_one_file_is_a_corpus_too(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("alone")
    assert texts(tmp_path / "a.txt") == ["alone"]


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        list(read_documents(tmp_path / "absent"))


@pytest.mark.parametrize(
    ("name", "data", "line", "reason"),
    [
        ("a.txt", b"", 0, "empty"),
        ("a.txt", b" \r\n\t", 0, "empty"),
        ("a.txt", b"a\x00b", 0, "nul_bytes"),
        ("a.pdf", b"%PDF-1.7\n%\xe2\xe3", 0, "pdf"),
        ("a.txt", bytes(range(1, 256)), 0, "binary"),
        ("a.jsonl", LINE + b"{torn", 2, "not_json"),
        ("a.jsonl", LINE + b'{"text": "\xff"}\n' + LINE, 2, "not_json"),
        ("a.jsonl", LINE + b"[" * 100_000 + b"\n" + LINE, 2, "not_json"),
        ("a.jsonl", b"[1]\n" + LINE, 1, "not_an_object"),
        ("a.jsonl", b'{"words": 1}\n' + LINE, 1, "no_text_field"),
        ("a.jsonl", b'{"text": 7}\n' + LINE, 1, "no_text_field"),
        ("a.jsonl", b'{"text": " "}\n', 1, "empty"),
        ("a.jsonl", rb'{"text": "half \ud800"}' + b"\n", 1, "half_surrogate"),
        ("a.jsonl", rb'{"text": "a\u0000"}' + b"\n", 1, "nul_bytes"),
        ("a.jsonl.gz", gzip.compress(LINE * 50, mtime=0)[:40], 0, "unreadable"),
        ("a.jsonl.gz", b"not gzip at all", 1, "not_json"),
        ("a.jsonl.zst", zstandard.compress(LINE * 50)[:-4], 0, "unreadable"),
        ("a.jsonl.zst", b"\x28\xb5\x2f\xfd\x01", 0, "unreadable"),
        ("a.parquet", b"PAR1 torn", 0, "unreadable"),
    ],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, data: bytes, line: int, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    assert rejected(tmp_path) == [(name, line, reason)]


def test_a_bad_line_costs_only_itself(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + LINE + b"{torn\n" + LINE)
    assert texts(tmp_path) == ["猫很好。", "猫很好。"]


def test_too_long_a_line_is_skipped_without_being_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_files, "MAX_BYTES", 100)
    monkeypatch.setattr(text_files, "MAX_BYTES", 100)
    (tmp_path / "a.jsonl").write_bytes(LINE + b'{"text": "' + b"x" * 5000 + b'"}\n' + LINE)
    (tmp_path / "b.txt").write_bytes(b"x" * 101)
    assert texts(tmp_path) == ["猫很好。", "猫很好。"]
    assert [(file, line) for file, line, _ in rejected(tmp_path)] == [("a.jsonl", 2), ("b.txt", 0)]


def test_clean_composes_and_ends_lines_alike() -> None:
    assert clean("\ncafe\u0301\r\nx\ry\n\n") == "café\nx\ny"


def test_cut_at_paragraphs_only_and_nothing_lost() -> None:
    text = "\n\n".join("abc " * n for n in (1, 2, 30, 1, 1))
    pieces = cut(text, size=20)
    assert "\n\n".join(pieces) == text and len(pieces) == 3
    assert max(pieces, key=len) == "abc " * 30


def test_pages_crawls_and_code_of_any_language_are_read_too(tmp_path: Path) -> None:
    pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
    (tmp_path / "a.html").write_text(f"<html><body><main><p>{'A page of text. ' * 20}</p></main></body></html>")
    (tmp_path / "b.lua").write_text("local x = 1")
    (tmp_path / "Makefile").write_text("all:\n\techo")
    record = b"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a.org/\r\nContent-Type: text/plain\r\n"
    (tmp_path / "c.wet").write_bytes(record + b"Content-Length: 11\r\n\r\nplain words\r\n\r\n")
    kinds = {found["source"]: found["kind"] for found in read_documents(tmp_path) if not isinstance(found, Rejected)}
    assert kinds == {"Makefile": "code", "a.html": "web", "b.lua": "code", "c.wet:1": "web"}


@pytest.mark.parametrize(("name", "package"), [("a.html", "resiliparse"), ("a.warc", "fastwarc")])
def test_a_file_whose_package_is_missing_is_set_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, package: str
) -> None:
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, package, None)
    (tmp_path / name).write_bytes(b"x")
    (tmp_path / "b.txt").write_text("text")
    bad, good = read_documents(tmp_path)
    assert isinstance(bad, Rejected) and bad.reason == "missing_package" and bad.detail.startswith(package)
    assert not isinstance(good, Rejected) and good["text"] == "text"


def test_only_what_could_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINE + b"{torn\n" + LINE)
    assert [found["source"] for found in readable_documents(tmp_path)] == ["a.jsonl:1", "a.jsonl:3"]
