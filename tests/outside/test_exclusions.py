"""Exclusions hold: an author's word in any spelling and place, and blocklists for any spelling of an address."""

from pathlib import Path

import pytest

pytest.importorskip("fastwarc", reason="FastWARC comes with the extra `data`")
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.exclusions import blocklist, is_blocked, opts_out
from qianwen.data.documents.extract import page_text
from qianwen.data.documents.readers import read_file

PROSE = "The river rises in the hills and runs to the sea through three counties, past mills and farms. " * 4
STYLE = "<style>" + "a{b:c}" * 3000 + "</style>"


def page(head: str, body: str = "") -> bytes:
    return (
        f"<html><head><title>x</title>{head}</head><body>{body}<article><p>{PROSE}</p></article></body></html>".encode()
    )


@pytest.mark.parametrize(
    "head",
    [
        '<meta name="robots" content="noai">',
        '<meta name = "robots" content = "noai">',
        "<META NAME='ROBOTS' CONTENT='NOAI, NOIMAGEAI'>",
        "<meta name=robots content=noai>",
        '<meta content="index,follow,noai" name="Robots" />',
        '<meta\n  name="robots"\n  content="noindex,\n nofollow"\n>',
        '<meta name="robots" content="none">',
        '<meta name="robots" content="noml">',
        '<meta name="robots" content="no&#97;i">',
        '<meta data-x=">" name="robots" content="noai">',
        '<meta name="GPTBot" content="noai">',
        '<meta name="googlebot" content="noml">',
        '<meta name="CCBot" content="noai"><meta name="robots" content="index">',
        '<meta name="robots" content="index"><meta name="robots" content="noai">',
        '<meta http-equiv="X-Robots-Tag" content="noai">',
        '<meta name="tdm-reservation" content="1">',
        "<meta name = TDM-Reservation content = '1'>",
        STYLE + '<meta name="robots" content="noai">',
        "<script>" + "x(1);" * 20_000 + "</script><meta name=robots content=noai>",
        "<!-- " + "x" * 9000 + " --><meta name=robots content=noai>",
    ],
)
def test_a_page_says_no(head: str) -> None:
    assert page_text(page(head)) == Rejected("", 0, DropReason.OPTED_OUT)


def test_a_page_says_no_in_the_wrong_place_and_in_utf_16() -> None:
    word = "<meta name=robots content=noai>"
    assert page_text(page("", word)) == Rejected("", 0, DropReason.OPTED_OUT)
    assert page_text(page(word).decode().encode("utf-16")) == Rejected("", 0, DropReason.OPTED_OUT)
    assert page_text(word.encode() + page("")) == Rejected("", 0, DropReason.OPTED_OUT)


@pytest.mark.parametrize(
    "head",
    [
        '<meta name="robots" content="index, follow, noarchive, nosnippet, max-snippet:-1">',
        '<meta name="robots" content="noimageai">',
        '<meta name="description" content="what noai and noindex mean">',
        '<meta name="keywords" content="noai">',
        '<!-- <meta name="robots" content="noai"> -->',
        "<script>x = '<meta name=robots content=noai>'</script>",
        '<meta name="googlebot" content="noindex">',
        '<meta name="tdm-reservation" content="0">',
        '<metadata name="robots" content="noai">',
        '<meta name="robots">',
    ],
)
def test_a_page_does_not_say_no(head: str) -> None:
    assert isinstance(page_text(page(head)), str)


@pytest.mark.parametrize(
    ("headers", "out"),
    [
        (["X-Robots-Tag: noai"], True),
        (["x-robots-tag: max-snippet:-1, NOAI"], True),
        (["X-Robots-Tag: noai, noimageai", "X-Robots-Tag: max-snippet:-1"], True),
        (["X-Robots-Tag: max-snippet:-1", "X-Robots-Tag: all", "X-ROBOTS-TAG: noindex"], True),
        (["X-Robots-Tag: googlebot: noai"], True),
        (["X-Robots-Tag: unavailable_after: 25 Jun 2030 15:00:00 PST, noindex"], True),
        (["X-Robots-Tag: none"], True),
        (["TDM-Reservation: 1"], True),
        (["X-Robots-Tag: index", "tdm-reservation: 1"], True),
        (["X-Robots-Tag: googlebot: noindex, nofollow"], False),
        (["X-Robots-Tag: noimageai, noarchive"], False),
        (["X-Robots-Tag: unavailable_after: 25 Jun 2030 15:00:00 PST"], False),
        (["tdm-reservation: 0"], False),
        (["X-Robots: noai"], False),
    ],
)
def test_headers(tmp_path: Path, headers: list[str], out: bool) -> None:
    http = (
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n" + "".join(f"{h}\r\n" for h in headers) + "\r\n"
    ).encode() + page("")
    head = f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://a.org/\r\nContent-Length: {len(http)}\r\n"
    (tmp_path / "a.warc").write_bytes(head.encode() + b"Content-Type: application/http\r\n\r\n" + http + b"\r\n\r\n")
    (found,) = read_file(tmp_path / "a.warc", "a.warc")
    assert isinstance(found, Rejected) == out and (not isinstance(found, Rejected) or found.reason == "opted_out")
    assert opts_out([tuple(h.split(": ", 1)) for h in headers]) == out  # type: ignore[misc]


LIST = """# a list
Blocked.Example
*.wild.example
bücher.example
port.example:8080
folder.example/Private/
straße.example.
folder.example/%7Euser
asked.example/show?id=1
0.0.0.0 hosts.example
<http://brackets.example/>
"""


@pytest.fixture(params=["utf-8", "utf-8-sig", "utf-16"])
def blocked(tmp_path: Path, request: pytest.FixtureRequest) -> frozenset[str]:
    (tmp_path / "list").write_bytes(LIST.encode(request.param))
    return blocklist(tmp_path / "list")


def test_any_spelling_of_an_address_is_blocked(blocked: frozenset[str]) -> None:
    for url in (
        "<http://blocked.example/angle>", "HTTP://BLOCKED.EXAMPLE/x", "http://blocked.example.:80/", "blocked.example",
        "http://a.b.blocked.example:8443/", "https://user:pw@www.blocked.example/", "http://www.wild.example/",
        "http://xn--bcher-kva.example/x", "http://BÜCHER.example", "http://b%C3%BCcher.example/", "http://bu\u0308cher.example/",
        "http://port.example:8080/x", "http://sub.port.example:8080/", "http://folder.example/Private/a/b?c=d",
        "https://folder.example/~user/x", "http://xn--strae-oqa.example", "http://asked.example/show?id=1&page=2",
        "http://hosts.example", " http://brackets.example/x ", "http://blocked。example/",
    ):  # fmt: skip
        assert is_blocked(url if "//" in url else f"//{url}", blocked), url


def test_other_addresses_are_not(blocked: frozenset[str]) -> None:
    for url in (
        "http://notblocked.example/", "http://blocked.example.org/", "http://example/", "http://port.example/", "",
        "http://port.example:80801/", "http://folder.example/private/", "http://folder.example/Privately", "http://[bad",
        "http://asked.example/show?id=12", "http://other.example/?u=http://blocked.example/", "http://xn--.example/",
    ):  # fmt: skip
        assert not is_blocked(url, blocked), url
