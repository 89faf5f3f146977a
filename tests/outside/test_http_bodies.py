"""Bodies of crawls as they were sent: chunked, compressed, or only said to be."""

import gzip
import importlib.util
import zlib
from pathlib import Path

import pytest
import zstandard

pytest.importorskip("fastwarc", reason="FastWARC comes with the extra `data`")
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.http_bodies import body, joined
from qianwen.data.documents.readers import read_file

PROSE = "The river rises in the hills and runs to the sea through three counties, past mills and farms. " * 4
PAGE = f"<html><head><title>A river</title></head><body><main><p>{PROSE}</p></main></body></html>".encode()
LIMIT = 1 << 20


def chunked(data: bytes, size: int = 100, extension: bytes = b"") -> bytes:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    return b"".join(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece) for piece in pieces) + b"0\r\n\r\n"


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def record(
    data: bytes, headers: str = "Content-Type: text/html\r\n", uri: str = "http://a.org/", status: int = 200
) -> bytes:
    http = f"HTTP/1.1 {status} X\r\n{headers}\r\n".encode() + data
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {uri}\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def read(folder: Path, *records: bytes) -> list:
    (folder / "a.warc").write_bytes(b"".join(records))
    return list(read_file(folder / "a.warc", "a.warc"))


ENCODED = {
    "Transfer-Encoding: chunked": chunked(PAGE),
    "transfer-encoding: Chunked": chunked(PAGE, 37, b";name=value"),
    "Content-Encoding: gzip": gzip.compress(PAGE, mtime=0),
    "Content-Encoding: x-gzip": gzip.compress(PAGE, mtime=0),
    "Content-Encoding: gzip\r\nTransfer-Encoding: chunked": chunked(gzip.compress(PAGE, mtime=0)),
    "Transfer-Encoding: gzip, chunked": chunked(gzip.compress(PAGE, mtime=0)),
    "Content-Encoding: deflate": zlib.compress(PAGE),
    "content-encoding: DEFLATE": raw_deflate(PAGE),
    "Content-Encoding: zstd": zstandard.compress(PAGE),
    "Content-Encoding: gzip, zstd": zstandard.compress(gzip.compress(PAGE, mtime=0)),
    "Content-Encoding: gzip ": gzip.compress(PAGE[:50], mtime=0) + gzip.compress(PAGE[50:], mtime=0),
    "Server: says nothing of it": gzip.compress(PAGE, mtime=0),
    "Content-Encoding: identity": PAGE,
}


@pytest.mark.parametrize("header", ENCODED)
def test_a_body_is_decoded(tmp_path: Path, header: str) -> None:
    (page,) = read(tmp_path, record(ENCODED[header], f"Content-Type: text/html\r\n{header}\r\n"))
    assert not isinstance(page, Rejected) and page["text"] == PROSE.strip()


@pytest.mark.parametrize("claim", ["gzip", "br", "deflate", "zstd", "chunked", "utf-8", "gzip, br", "none", "compress"])
def test_a_body_that_only_claims_an_encoding_passes(tmp_path: Path, claim: str) -> None:
    header = "Transfer-Encoding" if claim == "chunked" else "Content-Encoding"
    (page,) = read(tmp_path, record(PAGE, f"Content-Type: text/html\r\n{header}: {claim}\r\n"))
    assert not isinstance(page, Rejected) and page["text"] == PROSE.strip()


@pytest.mark.parametrize(
    ("header", "data", "reason"),
    [
        ("Content-Encoding: gzip", gzip.compress(PAGE, mtime=0)[:-30], DropReason.TRUNCATED_RECORD),
        ("Content-Encoding: gzip", gzip.compress(PAGE, mtime=0)[:10] + b"\xff" * 50, DropReason.CONTENT_ENCODING),
        ("Content-Encoding: compress", b"\x1f\x9d\x90" + b"\x00\x01" * 50, DropReason.CONTENT_ENCODING),
        ("Content-Encoding: unheard-of", b"\x00\x01" * 50, DropReason.CONTENT_ENCODING),
        ("Content-Encoding: gzip", b"\x89PNG\r\n\x1a\n\x00", DropReason.CONTENT_ENCODING),
        ("Server: x", b"%PDF-1.4\n%\xe2\xe3", DropReason.PDF),
        ("Server: x", b"\x89PNG\r\n\x1a\n\x00", DropReason.IMAGE),
    ],
)
def test_what_cannot_be_decoded_says_why(tmp_path: Path, header: str, data: bytes, reason: str) -> None:
    (found,) = read(tmp_path, record(data, f"Content-Type: text/html\r\n{header}\r\n"))
    assert isinstance(found, Rejected) and found.reason == reason and "http://a.org/" in found.detail


def test_brotli_is_decoded_or_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    headers = [("Content-Encoding", "br")]
    packed = b"\x8b\x07\x80a page in brotli\x03"
    if importlib.util.find_spec("brotli"):
        import brotli

        packed = brotli.compress(PAGE)
        assert body(packed, headers, LIMIT) == PAGE
        assert body(packed[:-9], headers, LIMIT) == Rejected("", 0, DropReason.TRUNCATED_RECORD)
    monkeypatch.setitem(__import__("sys").modules, "brotli", None)
    refused = body(packed, headers, LIMIT)
    assert isinstance(refused, Rejected) and refused.reason == DropReason.MISSING_PACKAGE and refused.detail == "brotli"


def test_a_bomb_does_not_fill_the_memory() -> None:
    bomb = gzip.compress(b"\x00" * (64 << 20), mtime=0)
    assert len(body(bomb, [("Content-Encoding", "gzip")], LIMIT)) == LIMIT + 1


@pytest.mark.parametrize(
    "data", [b"", b"19", b"not chunked", b"5\r\nhello", b"zz\r\nhello\r\n0\r\n\r\n", b"5\r\nhelloworld\r\n"]
)
def test_chunks_that_are_none_are_left(data: bytes) -> None:
    assert joined(data) == (b"hello" if data == b"5\r\nhello" else data)


HTML = f"<!DOCTYPE html>{PAGE.decode()}".encode()


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("Content-Type: Text/HTML; Charset=UTF-8\r\n", PAGE),
        ("content-type: TEXT/html\r\n", PAGE),
        ("Content-Type: application/xhtml+xml\r\n", PAGE),
        ("Content-Type: text/html, text/html\r\n", PAGE),
        ("Content-Type:  text/html;charset=\r\n", PAGE),
        ("Content-Type: text/plain\r\n", HTML),
        ("", PAGE),
        ("Content-Type: \r\n", HTML),
        ("", b"\n<!-- x --> \n" + HTML),
        ("", PROSE.encode()),
        ("Content-Type: text/plain\r\n", PROSE.encode()),
    ],
)
def test_pages_are_recognised_whatever_their_type_is_called(tmp_path: Path, content_type: str, data: bytes) -> None:
    (page,) = read(tmp_path, record(data, content_type))
    assert not isinstance(page, Rejected) and page["text"].strip() == PROSE.strip()


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ("Content-Type: image/png\r\n", 200, DropReason.OTHER_CONTENT_TYPE),
        ("Content-Type: application/json\r\n", 200, DropReason.OTHER_CONTENT_TYPE),
        ("Content-Type: text/html\r\n", 404, DropReason.NOT_OK),
        ("Content-Type: text/html\r\n", 301, DropReason.NOT_OK),
        ("Content-Type: text/html\r\n", 206, DropReason.NOT_OK),
    ],
)
def test_what_is_not_read_is_counted(tmp_path: Path, headers: str, status: int, reason: str) -> None:
    (found,) = read(tmp_path, record(PAGE, headers, status=status))
    assert isinstance(found, Rejected) and found.reason == reason


def test_targets_in_brackets_are_addresses(tmp_path: Path) -> None:
    (page,) = read(tmp_path, record(PAGE, uri="<http://a.org/x>"))
    assert not isinstance(page, Rejected) and page["url"] == "http://a.org/x"
