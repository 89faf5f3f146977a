"""Text, Markdown and source code as documents: one document a file, or several where prose is long.

Text is UTF-8 or what a byte order mark, a coding line (`# -*- coding: gbk -*-`) or statistics say.
"""

import io
import re
from collections.abc import Iterator

from qianwen.data.documents.document import MAX_BYTES, UNKNOWN, Document, Rejected, clean
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.encoding_choice import decoded
from qianwen.data.documents.language_id import code_language

PIECE = 16_384  # characters; a longer prose file becomes several documents, cut between paragraphs
KINDS = {".txt": "text", ".md": "docs", ".markdown": "docs", ".rst": "docs", ".tex": "docs"} | dict.fromkeys(
    (".py", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".sh", ".sql"), "code"
)
CODING_LINE = re.compile(rb"[^\n]{0,200}?coding[:=][ \t]*([-\w.]{1,40})")  # of Python, Emacs and Vim, in two lines
CONTROLS = re.compile("[\x01-\x07\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]")
MOST_CONTROLS = 0.02  # share of control characters above which bytes that no encoding explains are not text


def text_file(handle: io.BufferedIOBase, name: str, kind: str) -> Iterator[Document | Rejected]:
    """A file as one document if it is code, else cut into pieces. An empty `kind` is decided by the text."""
    text = _text_of(handle.read(MAX_BYTES + 1))
    if isinstance(text, Rejected):
        yield text._replace(file=name)
        return
    kind = kind or ("code" if code_language("", text) else "text")
    pieces = [text] if kind == "code" else cut(text)
    for number, piece in enumerate(pieces, start=1):
        source = f"{name}#{number}" if len(pieces) > 1 else name
        yield Document(text=piece, source=source, lang=UNKNOWN, licence=UNKNOWN, kind=kind)


def _text_of(data: bytes) -> str | Rejected:
    """The cleaned text of a whole file, or why there is none."""
    if len(data) > MAX_BYTES:
        return Rejected("", 0, DropReason.FILE_TOO_LONG, f"> {MAX_BYTES // 2**20} MB")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = ""
    if not text or "\x00" in text or "\x1b$" in text:  # the last begins Japanese in seven bits
        read = decoded(data, _coding_line(data))
        if read is None:
            return Rejected("", 0, DropReason.REFUSED_ENCODING)
        text = read.text
        if "\x00" in text:
            return Rejected("", 0, DropReason.NUL_BYTES)
        if sum(1 for _ in CONTROLS.finditer(text)) > MOST_CONTROLS * len(text):
            return Rejected("", 0, DropReason.BINARY)
    text = clean(text)
    return text if text.strip() else Rejected("", 0, DropReason.EMPTY)


def _coding_line(data: bytes) -> str:
    """The encoding that one of the first two lines names."""
    lines = data[:1000].split(b"\n", 2)[:2]
    return next((match[1].decode("latin-1") for line in lines if (match := CODING_LINE.match(line))), "")


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
