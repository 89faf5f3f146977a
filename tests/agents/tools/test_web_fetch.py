"""Web pages as text for a model."""

import importlib.util
import json
from pathlib import Path

import pytest

from qianwen.agents.tool import CallContext
from qianwen.agents.tools.web_fetch import html_text, web_fetch
from qianwen.runtime.errors import ConfigError, ToolError


def fetch(web, path: str) -> str:
    (tool,) = web_fetch(allowed=[web.host])
    return tool.run({"url": web.url + path}, CallContext("k", Path("."), 5.0)).text


@pytest.mark.parametrize("path", ["/tea", "/gzip", "/deflate", "/redirect?/tea"])
def test_a_page_is_its_title_and_main_text_with_links(path: str, web):
    text = fetch(web, path)
    assert text.startswith(web.url)
    assert "# Tea" in text and "茶" in text and "China (/china?x=1)" in text
    assert "alert" not in text and "Home" not in text


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("<title>茶</title><p>北京天气</p>".encode("gb18030"), "text/html; charset=GB2312"),
        (b'<meta charset="gbk"><p>' + "北京天气".encode("gbk"), "text/html"),
        (
            b'<meta http-equiv="Content-Type" content="text/html; charset=gbk"><p>' + "北京天气".encode("gbk"),
            "text/html",
        ),
        ("<p>北京天气</p>".encode(), "text/html"),
        ("<p>北京天气</p>".encode(), ""),
        ("<p>北京天气</p>".encode(), "text/html; charset=nonsense"),
        ("<p>北京天气</p>".encode("utf-16"), "text/html"),
        ("北京天气".encode("big5"), "text/plain; charset=big5"),
        ("北京天气".encode(), "text/plain"),
        (json.dumps({"a": "北京天气"}, ensure_ascii=False).encode(), "application/json"),
    ],
)
def test_the_encoding_is_the_declared_one(body: bytes, kind: str, web):
    web.pages["page"] = (body, kind)
    assert "北京天气" in fetch(web, "/page")


def test_errors_of_the_server_are_errors_of_the_tool(web):
    with pytest.raises(ToolError, match="status 404: .*not there"):
        fetch(web, "/missing")


def test_what_is_not_text_is_refused(web):
    web.pages["picture"] = (b"\x89PNG\r\n\0", "image/png")
    with pytest.raises(ToolError, match="neither text"):
        fetch(web, "/picture")


def test_pages_without_a_main_part_or_any_text_are_read():
    assert html_text("<ul><li><a href='/a'>one</a><li>two</ul>").split() == ["•", "one", "(/a)", "•", "two"]
    assert "no text" in html_text("<html><script>x()</script></html>")


def test_a_page_that_is_nested_too_deeply_is_refused():
    with pytest.raises(ToolError, match="nested"):
        html_text("<div>" * 5000)


def test_a_private_address_is_refused_and_the_tool_sends(web):
    (tool,) = web_fetch()
    assert (tool.name, tool.effect, tool.is_trusted) == ("web_fetch", "sends", False)
    with pytest.raises(ToolError, match="not public"):
        tool.run({"url": web.url + "/tea"}, CallContext("k", Path("."), 5.0))
    assert web.requests == []


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"qianwen\[data\]"):
        web_fetch()
