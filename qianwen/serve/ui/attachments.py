"""Files attached to a question: text and PDF become text, which is sent with the question and saved with it.

The browser sends a file to `/pages/text` and gets its text; nothing is stored on the server. The file's name is only
displayed: it is never a path.
"""

from __future__ import annotations

import html
import json
import re
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.exchange import read_body
from qianwen.serve.service import Service
from qianwen.serve.ui.pdf import pdf_text
from qianwen.serve.ui.turns import Turn

MAX_FILES = 8  # of one question
MAX_TEXT = 1_000_000  # characters of all files of one question
MAX_NAME = 80  # characters
CLIP = (
    '<svg aria-hidden="true" viewBox="0 0 24 24" width="18" height="18" fill="none" stroke="currentColor" '
    'stroke-width="2">'
    '<path d="M20 11l-8 8a5 5 0 0 1-7-7l9-9a3.5 3.5 0 0 1 5 5l-9 9a2 2 0 0 1-3-3l8-8"/></svg>'
)
# Characters of GB 2312, the common ones of GB 18030, but not two accented letters inside a word
HANZI = re.compile(rb"(?<![A-Za-z])(?:[\xa1-\xf7][\xa1-\xfe])+(?![a-z])")
BINARY = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")  # control characters that no text has


def attachment_routes(service: Service) -> APIRouter:
    """`/pages/text`: the text of a file."""
    router = APIRouter()

    @router.post("/pages/text", include_in_schema=False)
    async def text_of(http: Request, name: str = "") -> Response:
        with service.admission.admit(http.scope["key"], 0):  # counts as a request of the key
            data = await read_body(http, service.admission.limits)
            text = await file_text(data)
        return JSONResponse({"name": clean_name(name), "text": text, "line": file_line(clean_name(name), text)})

    return router


async def file_text(data: bytes) -> str:
    """The text of a file. RequestError if it is neither text nor a PDF, or too long."""
    text = await pdf_text(data) if data.startswith(b"%PDF-") else _decoded(data)
    if not text.strip():
        raise RequestError(tr("the file is empty"))
    if len(text) > MAX_TEXT:
        message = "the file has {count:,} characters; at most {limit:,} can be attached"
        raise RequestError(tr(message, count=len(text), limit=MAX_TEXT))
    return text


def _decoded(data: bytes) -> str:
    """Text in UTF-8, UTF-16 with a byte order mark, GB 18030, or one byte a character."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        return data.decode("utf-16", "replace")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        num_high = sum(byte >= 0x80 for byte in data)
        is_chinese = sum(map(len, HANZI.findall(data))) > num_high / 2
        text = data.decode("gb18030" if is_chinese else "windows-1252", "replace")
    if BINARY.search(text):
        raise RequestError(tr("only text files and PDF can be attached; this file is neither"))
    return text


def clean_name(name: str) -> str:
    """A file name to display: the last part of a path, on one line."""
    printable = "".join(c if c.isprintable() else " " for c in re.split(r"[/\\]", name)[-1])
    return " ".join(printable.split())[:MAX_NAME] or tr("file")


def read_attached(value: Any) -> list[dict[str, str]]:
    """The attached files that a page sends as JSON. A client can send anything, so all of it is checked."""
    try:
        rows = json.loads(value or "[]")
        files = [{"name": clean_name(row["name"]), "text": str(row["text"])} for row in rows]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise RequestError(tr("the attached files cannot be read; load the page again")) from None
    if len(files) > MAX_FILES or sum(len(file["text"]) for file in files) > MAX_TEXT:
        message = "at most {files} files with {limit:,} characters in all can be attached to a question"
        raise RequestError(tr(message, files=MAX_FILES, limit=MAX_TEXT))
    return files


def file_line(name: str, text: str) -> str:
    """The line that displays an attached file."""
    return tr("File {name} ({count:,} character{count:plural})", name=name, count=len(text))


def shown_question(turn: Turn) -> str:
    """The text of a question as it is displayed, with a line for each file."""
    lines = [file_line(file["name"], file["text"]) for file in turn.get("files", ())]
    return "\n".join([*lines, turn["content"]])


def edited_question(turn: Turn, shown: str) -> tuple[str, list[dict[str, str]]]:
    """Text and files of a question after its displayed text was edited. A file whose line was removed is detached."""
    files, lines = [], shown.split("\n")
    for file in turn.get("files", ()):
        line = file_line(file["name"], file["text"])
        if line in lines:
            lines.remove(line)
            files.append(file)
    return "\n".join(lines), files


def picker_html() -> str:
    """The button that attaches files, and the list of those attached. `pages.js` listens to it."""
    label = html.escape(tr("Attach text or PDF"))
    return (
        f'<label id="attach" title="{label}"><input type="file" multiple aria-label="{label}">'
        f'{CLIP}</label><ul id="files" aria-live="polite"></ul>'
    )
