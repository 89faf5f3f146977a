"""Attached files become text; their names are displayed and are never paths."""

import asyncio
import json

import pytest

pytest.importorskip("markdown_it", reason="the pages need the [ui] extra")

from qianwen.runtime.errors import RequestError  # noqa: E402
from qianwen.serve.store import Store  # noqa: E402
from qianwen.serve.ui.attachments import (  # noqa: E402
    MAX_FILES,
    MAX_TEXT,
    clean_name,
    edited_question,
    file_text,
    read_attached,
    shown_question,
)


def text_of(data: bytes) -> str:
    return asyncio.run(file_text(data))


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "a\tb\r\nc\x0c",
        "été à la plage, naïve",
        "千问是一个模型。\n第二行",
        "ＡＢＣ",
        "🙂 emoji",
        "\x1b[1mbold",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_text_in_a_unicode_encoding_is_read(text, encoding):
    data = b"\xfe\xff" + text.encode("utf-16-be") if encoding == "utf-16-be-bom" else text.encode(encoding)
    assert text_of(data) == text


@pytest.mark.parametrize(
    "text", ["千问是通义实验室的大语言模型。", "第一章 绪论\nGPT 与 Qwen 的比较", "價格：１２３元"]
)
def test_chinese_text_in_an_older_encoding_is_read(text):
    assert text_of(text.encode("gb18030")) == text


@pytest.mark.parametrize("text", ["Le café était fermé.", "Größe: 5 µm", "“quoted” – text", "señor ñandú"])
def test_western_text_in_an_older_encoding_is_read(text):
    assert text_of(text.encode("windows-1252")) == text


@pytest.mark.parametrize(
    "data", [b"PK\x03\x04\x00\x00", b"\x89PNG\r\n\x1a\n\x00\x00", b"\x7fELF\x02\x01", b"a\x00b", bytes(range(256))]
)
def test_other_files_are_refused(data):
    with pytest.raises(RequestError, match="text files and PDF"):
        text_of(data)


@pytest.mark.parametrize("data", [b"", b" \n ", b"\xef\xbb\xbf"])
def test_an_empty_file_is_refused(data):
    with pytest.raises(RequestError, match="empty"):
        text_of(data)


def test_a_long_file_is_refused_with_its_length():
    with pytest.raises(RequestError, match=f"{MAX_TEXT + 1:,} characters"):
        text_of(b"a" * (MAX_TEXT + 1))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.txt", "a.txt"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\b.pdf", "b.pdf"),
        ("a\nb\x00\x1b[31m.txt", "a b [31m.txt"),
        ("报告 1.pdf", "报告 1.pdf"),
        ("\u202egnp.exe", "gnp.exe"),
        ("x" * 500, "x" * 80),
        ("", "file"),
        ("dir/", "file"),
    ],
)
def test_a_name_is_one_line_without_a_path(name, shown):
    assert clean_name(name) == shown


def test_what_a_page_sends_is_checked():
    rows = [{"name": "../a.txt", "text": "one", "line": "ignored"}]
    assert read_attached(json.dumps(rows)) == [{"name": "a.txt", "text": "one"}]
    assert read_attached("") == read_attached(None) == []
    for wrong in ("{", "[1]", '[{"name": 1, "text": "x"}]', '[{"name": "x"}]', "[" * 100_000, '{"a": 1}'):
        with pytest.raises(RequestError, match="cannot be read"):
            read_attached(wrong)
    for rows in ([{"name": "a", "text": "x"}] * (MAX_FILES + 1), [{"name": "a", "text": "x" * (MAX_TEXT + 1)}]):
        with pytest.raises(RequestError, match="at most"):
            read_attached(json.dumps(rows))


def test_editing_keeps_the_files_whose_lines_are_kept():
    files = [{"name": "a.txt", "text": "one"}, {"name": "b.txt", "text": "two\nlines"}]
    turn = {"role": "user", "content": "why?\n\nreally", "files": files}
    shown = shown_question(turn)
    assert shown.splitlines()[:2] == ["File a.txt (3 characters)", "File b.txt (9 characters)"]
    assert edited_question(turn, shown) == ("why?\n\nreally", files)
    without = shown.replace("File a.txt (3 characters)\n", "").replace("why", "how")
    assert edited_question(turn, without) == ("how?\n\nreally", files[1:])
    assert edited_question({"role": "user", "content": "x"}, "y\n") == ("y\n", [])


@pytest.fixture(scope="module")
def server(start, tmp_path_factory):
    from qianwen.serve.admission import Limits

    pytest.importorskip("gradio", reason="the pages need the [ui] extra")
    store = Store(tmp_path_factory.mktemp("store") / "s.sqlite")
    with start(store=store, limits=Limits(max_body_bytes=10_000), pages={}) as running:
        yield running


def test_the_route_returns_the_text_and_stores_nothing(server, tmp_path):
    with server.client() as client:
        reply = client.post("/pages/text", params={"name": "../x.txt"}, content="héllo".encode())
        assert reply.json() == {"name": "x.txt", "text": "héllo", "line": "File x.txt (5 characters)"}
        assert client.post("/pages/text", content=b"x" * 20_000).status_code == 413
        assert client.post("/pages/text", content=b"\x00").status_code == 400
        assert client.post("/pages/text", content=b"a", headers={"origin": "http://evil.example"}).status_code == 403
        assert client.get("/pages/text").status_code in (404, 405)


def test_the_route_needs_a_key_and_counts_against_its_rate(start, tmp_path):
    from qianwen.serve.gate import AccessRules

    pytest.importorskip("gradio", reason="the pages need the [ui] extra")
    store = Store(tmp_path / "s.sqlite")
    secret = store.add_key("ann", requests_per_minute=2)
    with start(store=store, access=AccessRules(keys_required=True, store=store), pages={}) as server:
        with server.client() as client:
            assert client.post("/pages/text", content=b"a").status_code == 401
        with server.client(headers={"authorization": f"Bearer {secret}"}) as client:
            assert [client.post("/pages/text", content=b"a").status_code for _ in range(3)] == [200, 200, 429]
