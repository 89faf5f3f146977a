"""What a file is, its content says: text without a name, packed files under any name, binary formats."""

import bz2
import gzip
import io
import lzma
import zipfile
from pathlib import Path

import pytest
import zstandard

from qianwen.data.documents.document import FilePart, Rejected
from qianwen.data.documents.file_content import binary_kind
from qianwen.data.documents.readers import read_file
from qianwen.runtime.files import read_jsonl

TEXT = "The river rises in the hills and runs to the sea.\n\nIt passes mills and farms."
LINES = b'{"text": "first"}\n{"text": "second", "lang": "en"}\n'
HTML = f"<!DOCTYPE html><html><body><main><p>{'A page of plain text. ' * 20}</p></main></body></html>".encode()


def read(folder: Path, name: str, data: bytes, part: FilePart | None = None) -> list:
    (folder / name).write_bytes(data)
    return list(read_file(folder / name, name, part=part or FilePart()))


def zipped(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return buffer.getvalue()


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstandard.compress, "": bytes}


@pytest.mark.parametrize("pack", PACKERS)
@pytest.mark.parametrize(
    "name", ["README", "copyright", "changelog.gz", "a.txt", "NEWS.Debian.gz", "a.xyz", "a.jsonl.gz"]
)
def test_any_text_is_read_packed_or_not(tmp_path: Path, name: str, pack: str) -> None:
    data = LINES if "jsonl" in name else TEXT.encode()
    found = read(tmp_path, name, PACKERS[pack](data))
    assert [row["text"] for row in found] == (["first", "second"] if "jsonl" in name else [TEXT])
    assert {row["kind"] for row in found} == {"text"}


@pytest.mark.parametrize(
    ("name", "data", "kind"),
    [
        ("LICENSE", TEXT, "text"),
        ("build", "#!/bin/sh\nset -e\necho done\n", "code"),
        ("tool", "#!/usr/bin/env python3\nimport os\n", "code"),
        ("notes.md", "# Title\n", "docs"),
        ("a.csv", "name,age\nann,4\n", "text"),
        ("a.conf", "key = value\n", "text"),
        ("a.json", '{"name": "x", "version": 1}\n', "code"),
        ("a.log", "line\n" * 5, "text"),
        ("x.php", "<!DOCTYPE html>\n<?php echo 1; ?>\n", "code"),
    ],
)
def test_the_kind_of_a_text(tmp_path: Path, name: str, data: str, kind: str) -> None:
    (found,) = read(tmp_path, name, data.encode())
    assert not isinstance(found, Rejected) and found["kind"] == kind


@pytest.mark.parametrize("name", ["page", "index.txt", "download.php3", "a.html.gz", "b.htm", "saved"])
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf", b"\n <!-- saved from x -->\n"])
def test_a_page_is_a_page_whatever_it_is_called(tmp_path: Path, name: str, before: bytes) -> None:
    pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
    (found,) = read(tmp_path, name, before + HTML)
    assert not isinstance(found, Rejected) and found["kind"] == "web" and found["text"].startswith("A page")


@pytest.mark.parametrize("name", ["records", "train.json", "data.txt", "a.JSONL", "x.data"])
def test_records_are_records_whatever_they_are_called(tmp_path: Path, name: str) -> None:
    assert [row["text"] for row in read(tmp_path, name, b"\xef\xbb\xbf" + LINES)] == ["first", "second"]
    long = b'{"id": 1, "text": "' + b"x" * 200_000 + b'"}\n' + LINES
    assert [len(row["text"]) for row in read(tmp_path, name, long)] == [200_000, 5, 6]


BINARY = {
    "pdf": [b"%PDF-1.7\n%\xe2\xe3\xcf\xd3", b"%!PS-Adobe-3.0\n"],
    "image": [
        b"\x89PNG\r\n\x1a\n\x00",
        b"\xff\xd8\xff\xe0\x00\x10JFIF",
        b"GIF89a\x01\x00",
        b"RIFF\x24\x00\x00\x00WEBPVP8 ",
        b"II*\x00\x08\x00",
        b"\x00\x00\x01\x00\x01\x00",
        b"\x00\x00\x00\x1cftypavif\x00",
    ],
    "sound_or_video": [
        b"ID3\x03\x00\x00",
        b"OggS\x00\x02",
        b"RIFF\x24\x00\x00\x00WAVEfmt ",
        b"\x00\x00\x00\x18ftypmp42",
        b"\x1aE\xdf\xa3\x01",
    ],
    "font": [b"wOF2\x00\x01\x00\x00", b"OTTO\x00\x0b", b"\x00\x01\x00\x00\x00\x0f"],
    "office_document": [
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\x00",
        b"{\\rtf1\\ansi text}",
        zipped(**{"[Content_Types]_dot_xml": b"x"}),
    ],
    "program": [
        b"\x7fELF\x02\x01\x01",
        b"MZ\x90\x00\x03",
        b"\xca\xfe\xba\xbe\x00\x00",
        b"\x00asm\x01",
        zipped(**{"META-INF__MANIFEST_dot_MF": b"x"}),
    ],
    "archive": [
        b"7z\xbc\xaf\x27\x1c\x00",
        b"Rar!\x1a\x07\x00",
        b"!<arch>\ndebian-binary",
        gzip.compress(b"x" * 257 + b"ustar\x0000", mtime=0),
        gzip.compress(gzip.compress(b"text", mtime=0), mtime=0),
        b"x" * 257 + b"ustar  \x00",
    ],
    "database": [
        b"SQLite format 3\x00\x10",
        b"\x89HDF\r\n\x1a\n",
        b"\x93NUMPY\x01\x00",
        b"GGUF\x03\x00\x00\x00",
        b"\xde\x12\x04\x95\x00",
    ],
    "binary": [bytes(range(1, 256)) * 4, b"\x01\x02\x03\x80\x81" * 99],
    "nul_bytes": [b"text \x00 and text"],
    "empty": [b"", gzip.compress(b"", mtime=0), b" \n\n", b"\xef\xbb\xbf"],
    "unreadable": [
        gzip.compress(TEXT.encode() * 99, mtime=0)[:-30],
        b"PAR1 torn",
        b"PK\x03\x04 torn",
        bz2.compress(TEXT.encode())[:-9],
        lzma.compress(TEXT.encode())[:-9],
    ],
}


@pytest.mark.parametrize("name", ["noname", "page.html", "a.txt", "x.py"])
@pytest.mark.parametrize("reason", BINARY)
def test_what_is_no_text_says_what_it_is(tmp_path: Path, reason: str, name: str) -> None:
    if reason in ("binary", "nul_bytes") and name == "page.html":
        pytest.skip("a page may hold any bytes")
    for data in BINARY[reason]:
        found = read(tmp_path, name, data)
        expected = "empty_page" if reason == "empty" and name == "page.html" and data else reason
        assert [row.reason for row in found] in ([expected], ["empty"]), data


@pytest.mark.parametrize(
    "text", ["BMW makes cars.", "MZ is a code.", "PK was here", "ID3 tags", "OTTO said", "GIF files", "RIFF on"]
)
def test_words_that_begin_like_a_format_are_text(tmp_path: Path, text: str) -> None:
    assert binary_kind(text.encode()) is None
    assert read(tmp_path, "noname", text.encode())[0]["text"] == text


def test_the_files_in_an_archive_are_read(tmp_path: Path) -> None:
    data = zipped(b_dot_txt=TEXT.encode(), a__c_dot_jsonl=LINES, d_dot_png=b"\x89PNG\r\n", _dot_hidden=b"x", e=HTML)
    found = read(tmp_path, "corpus.zip", data)
    sources = [row.file if isinstance(row, Rejected) else row["source"] for row in found]
    assert sources == [
        "corpus.zip/a/c.jsonl:1",
        "corpus.zip/a/c.jsonl:2",
        "corpus.zip/b.txt",
        "corpus.zip/d.png",
        "corpus.zip/e",
    ]
    assert found[3].reason == "image" and not read(tmp_path, "x.zip", data, FilePart(1, 2))


@pytest.mark.parametrize("name", ["a.warc", "a.parquet", "a.jsonl"])
def test_a_false_name_does_not_repeat_a_text(tmp_path: Path, name: str) -> None:
    data = TEXT.encode() if name != "a.jsonl" else LINES
    parts = [read(tmp_path, name, data, FilePart(k, 3, len(data))) for k in range(3)]
    assert sum(map(len, parts)) == (2 if name == "a.jsonl" else 1)


def test_every_reader_of_records_goes_by_content(tmp_path: Path) -> None:
    for number, pack in enumerate(PACKERS.values()):
        (tmp_path / f"{number}.jsonl.gz").write_bytes(pack(LINES))
        assert [row["text"] for row in read_jsonl(tmp_path / f"{number}.jsonl.gz")] == ["first", "second"]
