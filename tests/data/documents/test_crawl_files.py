"""Crawl files: their pages with their addresses, in slices, and what is broken."""

import gzip
from pathlib import Path

import pytest

pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
from qianwen.data.documents.crawl_files import warc_file
from qianwen.data.documents.document import FilePart, Rejected
from qianwen.data.documents.drop_reasons import DropReason

PROSE = "The river rises in the hills and runs to the sea through three counties, past mills and farms. " * 4
BODY = f"<body><nav><a href=/>Home</a></nav><main><p>{PROSE}</p></main></body>"
PAGE = f"<html><head><title>A river</title></head>{BODY}</html>"


def record(
    body: str | bytes, url: str, *, status: str = "200 OK", kind: str = "text/html; charset=utf-8", more: str = ""
) -> bytes:
    body = body if isinstance(body, bytes) else body.encode()
    http = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000000>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(http)}\r\n\r\n"
    )
    return head.encode() + http + b"\r\n\r\n"


def crawl(path: Path, *records: bytes) -> Path:
    path.write_bytes(b"".join(map(gzip.compress, records)) if path.suffix == ".gz" else b"".join(records))
    return path


@pytest.mark.parametrize("name", ["crawl.warc", "crawl.warc.gz"])
def test_a_crawl_yields_its_pages_with_their_addresses(tmp_path: Path, name: str) -> None:
    file = crawl(
        tmp_path / name,
        record(PAGE, "http://a.org/river"),
        record(b"\x89PNG", "http://a.org/x.png", kind="image/png"),
        record("moved", "http://a.org/old", status="301 Moved"),
        record(PAGE, "http://ads.b.com/", more="X: y\r\n"),
        record(PAGE, "http://c.org/", more="X-Robots-Tag: noai\r\n"),
        record("plain words", "http://a.org/robots", kind="text/plain"),
    )
    found = list(warc_file(file, "crawl", blocked={"b.com"}))
    pages = [one for one in found if not isinstance(one, Rejected)]
    assert [page["url"] for page in pages] == ["http://a.org/river", "http://a.org/robots"]
    assert pages[0]["source"] == "crawl:1" and pages[0]["kind"] == "web" and pages[1]["text"] == "plain words"
    assert [(bad.line, bad.reason) for bad in found if isinstance(bad, Rejected)] == [
        (2, DropReason.OTHER_CONTENT_TYPE),
        (3, DropReason.NOT_OK),
        (4, DropReason.BLOCKED),
        (5, DropReason.OPTED_OUT),
    ]


def test_slices_of_a_crawl_are_all_of_it_once(tmp_path: Path) -> None:
    file = crawl(
        tmp_path / "a.warc.gz",
        *(record(f"text {number}", f"http://a.org/{number}", kind="text/plain") for number in range(300)),
    )
    whole = [page["url"] for page in warc_file(file, "a")]
    parts = [page["url"] for k in range(3) for page in warc_file(file, "a", part=FilePart(k, 3))]
    assert len(whole) == 300 and sorted(parts) == sorted(whole)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"not a crawl at all",
        gzip.compress(record(PAGE, "http://a.org"), mtime=0)[:-200],
        b"WARC/1.0\r\nContent-Length: 99999\r\n\r\nx",
    ],
)
def test_a_broken_crawl_is_set_aside(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.warc.gz"
    path.write_bytes(data)
    found = list(warc_file(path, "a"))
    assert found and isinstance(found[-1], Rejected)
