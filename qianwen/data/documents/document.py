"""A document, and the record that replaces it when it cannot be used.

    {"text": …, "source": "notes/a.md", "lang": "en", "licence": "CC-BY-4.0", "kind": "docs"}

Only `text` must be there in a JSON or Parquet record; the rest is filled in from the file's name.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any, NamedTuple, NotRequired, TypedDict

from qianwen.data.documents.drop_reasons import DropReason

MAX_BYTES = 64 * 2**20  # of one text file or one JSON line; a larger one is not a document
SURROGATE = re.compile("[\ud800-\udfff]")
UNKNOWN = "unknown"


@dataclass(frozen=True)
class FilePart:
    """The k-th of n parts of a file that had `size` bytes when it was divided."""

    k: int = 0
    n: int = 1
    size: int = 0


WHOLE_FILE = FilePart()


class Document(TypedDict):
    """A text and where it came from. `source` is `corpus:item`, or a path inside the folder read."""

    text: str
    source: str
    lang: str
    licence: str
    kind: str
    url: NotRequired[str]
    passed: NotRequired[str]  # the filters of the curation it came through


class Rejected(NamedTuple):
    """What could not be used: `line` is 0 when the whole file is meant; reasons are few, details are many."""

    file: str
    line: int
    reason: DropReason
    detail: str = ""


def clean(text: str) -> str:
    """The text as every later stage sees it: NFC, as the tokenizer will make it, and `\\n` at the end of lines."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip("\n")


def document_from_record(row: Any, name: str, number: int) -> Document | Rejected:
    """A record as a document; `content` and `license` are taken for what they mean."""
    if not isinstance(row, dict):
        return Rejected(name, number, DropReason.NOT_AN_OBJECT)
    text = row.get("text", row.get("content"))
    if not isinstance(text, str):
        return Rejected(name, number, DropReason.NO_TEXT_FIELD)
    if not text or text.isspace():
        return Rejected(name, number, DropReason.EMPTY)
    if "\x00" in text:
        return Rejected(name, number, DropReason.NUL_BYTES)
    if not text.isascii() and SURROGATE.search(text):
        return Rejected(name, number, DropReason.HALF_SURROGATE)
    document = Document(
        text=clean(text),
        source=_field(row.get("source")) or f"{name}:{number}",
        lang=_field(row.get("lang")) or UNKNOWN,
        licence=_field(row.get("licence") or row.get("license")) or UNKNOWN,
        kind=_field(row.get("kind")) or "text",
    )
    if url := _field(row.get("url")):
        document["url"] = url
    if passed := _field(row.get("passed")):
        document["passed"] = passed
    return document


def _field(value: Any) -> str:
    """What a record says beside its text, as text that any file can hold; half a surrogate pair becomes U+FFFD."""
    field = value if isinstance(value, str) else str(value or "")
    return field if field.isascii() else SURROGATE.sub("\ufffd", field)
