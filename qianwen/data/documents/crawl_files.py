"""WARC and WET files of crawls as documents: one page a record.

Read are answers with the status 200 or 203 whose type is HTML, XHTML or plain text, or, without a type, whose content
is; bodies are decoded as HTTP says (`http_bodies.py`). Every other answer comes out as `Rejected` with its reason and
address. Records that hold no answer (requests, metadata, revisits) are passed over.
"""

import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from qianwen.data.documents import http_bodies
from qianwen.data.documents.document import UNKNOWN, WHOLE_FILE, Document, FilePart, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.encoding_choice import decoded
from qianwen.data.documents.exclusions import is_blocked, opts_out
from qianwen.data.documents.extract import MAX_PAGE, page_text, repair
from qianwen.data.documents.file_content import binary_kind, is_html
from qianwen.data.documents.tags import charset_of

PAGES = ("text/html", "application/xhtml+xml")
PLAIN = "text/plain"
GOOD = (200, 203)  # 203: the answer came through a proxy that may have changed it
TURN = 64  # records in a turn


def warc_file(
    file: Path, name: str, *, part: FilePart = WHOLE_FILE, blocked: Collection[str] = ()
) -> Iterator[Document | Rejected]:
    """The pages of a WARC or WET file, packed or not; the k-th of n parts has the k-th of every n runs of 64 records.

    A page whose address is in `blocked` is left out before it is parsed.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.conversion | WarcRecordType.resource
    number = 0
    try:
        with file.open("rb") as stream:
            for number, record in enumerate(ArchiveIterator(stream, record_types=wanted), start=1):
                if (number - 1) // TURN % part.n == part.k:
                    yield _page(record, name, number, blocked)
    except (OSError, ValueError, RuntimeError, EOFError, zlib.error) as error:
        if number // TURN % part.n == part.k:
            yield Rejected(name, number + 1, DropReason.UNREADABLE, str(error))
        return
    if not number and part.k == 0:
        yield Rejected(name, 0, DropReason.NO_PAGES)


def _page(record: Any, name: str, number: int, blocked: Collection[str]) -> Document | Rejected:
    """The document of a record of FastWARC's."""
    url = (record.headers.get("WARC-Target-URI") or "").strip().removeprefix("<").removesuffix(">")
    text = _text(record, url, blocked)
    if isinstance(text, Rejected):
        return text._replace(file=name, line=number, detail=f"{text.detail} {url}".strip())
    return Document(text=text, source=f"{name}:{number}", lang=UNKNOWN, licence=UNKNOWN, kind="web", url=url)


def _text(record: Any, url: str, blocked: Collection[str]) -> str | Rejected:
    headers: list[tuple[str, str]] = []
    content_type = record.headers.get("Content-Type") or ""
    if record.is_http:
        if record.http_headers is None or record.http_headers.status_code is None:
            return Rejected("", 0, DropReason.TRUNCATED_RECORD)
        if (status := record.http_headers.status_code) not in GOOD:
            return Rejected("", 0, DropReason.NOT_OK, str(status))
        headers = list(record.http_headers.items())
        content_type = next((value for key, value in headers if key.lower() == "content-type"), "")
    kind = content_type.partition(";")[0].partition(",")[0].strip().lower()
    if kind and kind not in (*PAGES, PLAIN):
        return Rejected("", 0, DropReason.OTHER_CONTENT_TYPE, kind)
    if is_blocked(url, blocked):
        return Rejected("", 0, DropReason.BLOCKED)
    if opts_out(headers):
        return Rejected("", 0, DropReason.OPTED_OUT)
    body = _body(record, headers)
    if isinstance(body, Rejected):
        return body
    charset = charset_of(content_type)
    return page_text(body, charset) if kind in PAGES or is_html(body) else _plain(body, charset)


def _body(record: Any, headers: list[tuple[str, str]]) -> bytes | Rejected:
    if "Content-Length" not in record.headers:
        return Rejected("", 0, DropReason.TRUNCATED_RECORD)
    data = record.reader.read(MAX_PAGE + 1)
    if len(data) < min(record.content_length, MAX_PAGE + 1):
        return Rejected("", 0, DropReason.TRUNCATED_RECORD)
    return http_bodies.body(data, headers, MAX_PAGE)


def _plain(data: bytes, charset: str) -> str | Rejected:
    """The text of a body that is plain text, or claims nothing and is."""
    if len(data) > MAX_PAGE:
        return Rejected("", 0, DropReason.PAGE_TOO_LONG, f"> {MAX_PAGE // 2**20} MB")
    if kind := binary_kind(data):
        return Rejected("", 0, kind)
    read = decoded(data, charset)
    if read is None:
        return Rejected("", 0, DropReason.REFUSED_ENCODING, charset)
    text = repair(read.text)
    return text if text.strip() else Rejected("", 0, DropReason.EMPTY_PAGE)
