"""A tool that fetches a web page and returns its text. `fetch_guard.py` keeps it on the public internet."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from qianwen.agents.fetch_guard import Guard, Page
from qianwen.agents.tool import CallContext, Tool
from qianwen.agents.tools.documents import text_of
from qianwen.agents.tools.functions import function_tool
from qianwen.data.documents.encodings import REPLACEMENT, decode, encoding_of
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr

MAX_DEPTH = 1000  # of elements
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\s\"';,>/]+)", re.IGNORECASE)


def web_fetch(*, allowed: Sequence[str] = ()) -> Sequence[Tool]:
    """The tool, in a tuple. `allowed` are hosts (host or host:port) that need not be public, such as localhost:8000."""
    if importlib.util.find_spec("resiliparse") is None:
        raise ConfigError(
            tr("the tool {name} needs pip install '{package}'", name="web_fetch", package="qianwen[data]")
        )
    guard = Guard(allowed=tuple(allowed))

    def fetch(url: str, context: CallContext) -> str:
        """Fetch a web page, or a text, JSON or PDF file of the web, and return its text.

        Args:
            url: the whole address, such as https://example.org/page
        """
        page = guard.fetch(url, seconds=context.seconds)
        text = page_text(page, context.seconds)
        if page.status >= 400:
            message = "{url} answered with status {status}: {text}"
            raise ToolError(tr(message, url=excerpt(page.url), status=page.status, text=excerpt(text)))
        return f"{page.url}\n\n{text}"

    return (function_tool(fetch, effect="sends", name="web_fetch"),)


def page_text(page: Page, seconds: float) -> str:
    """The text of an answer: the main part of HTML with its links, and anything else as `text_of` reads it."""
    kind = page.headers.get("content-type", "").lower()
    is_html = "html" in kind or (not kind and page.body.lstrip()[:1] == b"<")
    declared = _CHARSET.search(kind) or (_CHARSET.search(page.body[:2048].decode("latin-1")) if is_html else None)
    encoding = encoding_of(declared[1]).replace(REPLACEMENT, "") if declared else ""
    if is_html:
        return html_text(decode(page.body, encoding) if encoding else text_of("page.html", page.body, seconds))
    if kind.startswith("text/") and encoding:
        return decode(page.body, encoding)
    return text_of(urlsplit(page.url).path, page.body, seconds)


def html_text(source: str) -> str:
    """The title and the main text of a page, or all of its text if it has no main part."""
    from resiliparse.extract.html2text import extract_plain_text

    if source.count("<") > 2 * MAX_DEPTH and _depth(source) > MAX_DEPTH:
        raise ToolError(tr("the page is nested too deeply to be read"))
    title = re.search(r"<title[^>]*>([^<]{1,300})", source, re.IGNORECASE)
    head = f"# {' '.join(title[1].split())}\n\n" if title else ""
    for main in (True, False):
        lines = extract_plain_text(source, main_content=main, links=True, alt_texts=False, preserve_formatting=True)
        if text := "\n".join(line.rstrip() for line in lines.splitlines()).strip():
            return head + text
    return head + tr("(the page has no text)")


def _depth(source: str) -> int:
    """How deeply elements are nested at most, counted as if every tag had an end."""
    depth = deepest = 0
    for match in re.finditer(r"<(/?)[a-z]", source, re.IGNORECASE):
        depth = max(0, depth + (-1 if match[1] else 1))
        deepest = max(deepest, depth)
    return deepest
