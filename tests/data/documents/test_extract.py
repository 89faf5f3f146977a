"""Pages, crawl files, and text that was decoded wrongly."""

import gzip
from pathlib import Path

import pytest

pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
from qianwen.data.documents.document import FilePart, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.extract import blocklist, html_file, is_blocked, page_text, repair, url_key, warc_file

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


def test_a_page_keeps_its_text_and_loses_its_navigation() -> None:
    text = page_text(PAGE.encode())
    assert isinstance(text, str) and text.startswith("The river rises") and "Home" not in text


def test_the_encoding_is_what_the_page_or_the_server_says() -> None:
    page = (
        "<html><head><meta charset=gb18030></head><body><p>" + "今天天气很好，我们去公园玩。" * 8 + "</p></body></html>"
    )
    assert "公园" in page_text(page.encode("gb18030"))
    bare = page.replace("<meta charset=gb18030>", "").encode("shift_jis", "ignore")
    assert "天" in page_text(bare, "shift_jis")
    assert "river" in page_text(PAGE.encode(), "no-such-encoding")


@pytest.mark.parametrize("name", ['name="robots" content="noai"', "name=tdm-reservation content=1"])
def test_an_author_can_opt_out(name: str) -> None:
    page = PAGE.replace("<head>", f"<head><meta {name}>")
    assert page_text(page.encode()) == Rejected("", 0, DropReason.OPTED_OUT)
    assert isinstance(page_text(page.replace("noai", "noindex").replace("content=1", "content=0").encode()), str)


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


def test_what_would_stall_the_parser_is_set_aside() -> None:
    for page in (b"<div>" * 50_000, b"<b>" * 2000 + b"x" + b"</b>" * 2000):
        assert page_text(page) == Rejected("", 0, DropReason.NESTED_TOO_DEEP)
    flat = b"<html><body>" + f"<p>{PROSE}<br><img src=x>".encode() * 800
    assert isinstance(page_text(flat), str)


def test_a_page_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    assert html_file(tmp_path / "a.html", "a.html")["kind"] == "web"
    (tmp_path / "b.html").write_bytes(b"")
    assert html_file(tmp_path / "b.html", "b.html") == Rejected("b.html", 0, DropReason.EMPTY_PAGE)


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("cafÃ© â€œyesâ€\x9d", "café “yes”"),
        ("ä½\xa0å¥½", "你好"),
        ("Ça va? Él está aquí: «sí»", "Ça va? Él está aquí: «sí»"),
        ("a\u00adb\ufeff c\x00d\x1b\u2028e\xa0f", "ab cd\ne f"),
        ("e\u0301\r\nx", "é\nx"),
        ("half \ud83d", "half \ufffd"),
        ("نمی\u200cخواهم 👩\u200d🔬", "نمی\u200cخواهم 👩\u200d🔬"),
    ],
)
def test_repair(wrong: str, right: str) -> None:
    assert repair(wrong) == right and repair(right) == right


def test_pages_are_the_same_whatever_way_they_were_reached() -> None:
    assert url_key("https://www.A.com:443/b/#c") == url_key("http://a.com/b") != url_key("http://a.com/b?x=1")
    assert url_key("http://[bad") == "http://[bad"


def test_a_blocklist_names_hosts_folders_and_pages(tmp_path: Path) -> None:
    (tmp_path / "list").write_text(
        "# no\nbad.com\n0.0.0.0 ads.example.com # as in a hosts file\n\nhttps://www.a.com/private/\nb.com/one.html\n"
    )
    blocked = blocklist(tmp_path / "list")
    named = ("http://x.bad.com/y", "bad.com:8080", "https://ads.example.com", "a.com/private/x?y=1", "b.com/one.html#z")
    assert all(is_blocked(url if "://" in url else f"http://{url}", blocked) for url in named)
    others = (
        "http://notbad.com/",
        "http://example.com/",
        "http://a.com/privately",
        "http://b.com/one",
        "",
        "http://[x",
    )
    assert not any(is_blocked(url, blocked) for url in others)
