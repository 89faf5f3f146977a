"""Text, Markdown and source code as documents: one document a file, or several where prose is long."""

import re
from collections.abc import Iterator
from pathlib import Path

from qianwen.data.documents.document import MAX_BYTES, UNKNOWN, Document, Rejected, clean
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.runtime.files import open_bytes

PIECE = 16_384  # characters; a longer prose file becomes several documents, cut between paragraphs
KINDS = {".txt": "text", ".md": "docs", ".markdown": "docs", ".rst": "docs", ".tex": "docs"} | dict.fromkeys(
    (".py", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".sh", ".sql"), "code"
)


def text_file(file: Path, name: str, kind: str) -> Iterator[Document | Rejected]:
    """A file as one document if it is code, else cut into pieces."""
    with open_bytes(file) as handle:
        data = handle.read(MAX_BYTES + 1)
    text = _text_of(data)
    if isinstance(text, Rejected):
        yield text._replace(file=name)
        return
    pieces = [text] if kind == "code" else cut(text)
    for number, piece in enumerate(pieces, start=1):
        source = f"{name}#{number}" if len(pieces) > 1 else name
        yield Document(text=piece, source=source, lang=UNKNOWN, licence=UNKNOWN, kind=kind)


def _text_of(data: bytes) -> str | Rejected:
    """The cleaned text of a whole file, or why there is none."""
    if len(data) > MAX_BYTES:
        return Rejected("", 0, DropReason.FILE_TOO_LONG, f"> {MAX_BYTES // 2**20} MB")
    if b"\x00" in data:
        return Rejected("", 0, DropReason.NUL_BYTES)
    try:
        text = clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Rejected("", line, DropReason.NOT_UTF8, str(error))
    return text if text.strip() else Rejected("", 0, DropReason.EMPTY)


def cut(text: str, size: int = PIECE) -> list[str]:
    """`text` in pieces of about `size` characters, cut at blank lines. A single paragraph is never cut."""
    pieces, current = [], ""
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", text):
        if current and len(current) + len(paragraph) > size:
            pieces.append(current)
            current = paragraph
        else:
            current = f"{current}\n\n{paragraph}" if current else paragraph
    return [*pieces, current]
