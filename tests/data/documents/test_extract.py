"""Pages, and text that was decoded wrongly."""

from pathlib import Path

import pytest

pytest.importorskip("resiliparse", reason="Resiliparse comes with the extra `data`")
from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.extract import page_text, repair
from qianwen.data.documents.readers import read_file

PROSE = "The river rises in the hills and runs to the sea through three counties, past mills and farms. " * 4
BODY = f"<body><nav><a href=/>Home</a></nav><main><p>{PROSE}</p></main></body>"
PAGE = f"<html><head><title>A river</title></head>{BODY}</html>"


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
    assert isinstance(page_text(page.replace("noai", "nofollow").replace("content=1", "content=0").encode()), str)


def test_what_would_stall_the_parser_is_set_aside() -> None:
    for page in (b"<div>" * 50_000, b"<b>" * 2000 + b"x" + b"</b>" * 2000):
        assert page_text(page) == Rejected("", 0, DropReason.NESTED_TOO_DEEP)
    flat = b"<html><body>" + f"<p>{PROSE}<br><img src=x>".encode() * 800
    assert isinstance(page_text(flat), str)


def test_a_page_on_the_disk(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(PAGE)
    (page,) = read_file(tmp_path / "a.html", "a.html")
    assert not isinstance(page, Rejected) and page["kind"] == "web"
    (tmp_path / "b.html").write_bytes(b"<p></p>")
    assert list(read_file(tmp_path / "b.html", "b.html")) == [Rejected("b.html", 0, DropReason.EMPTY_PAGE)]


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
