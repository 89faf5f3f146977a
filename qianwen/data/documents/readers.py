"""A folder of files as documents: text, Markdown, source code, JSON lines and Parquet.

Whatever cannot be read comes out as `Rejected` with its file, line and reason, in its place among the documents; the
reading goes on, and nothing is dropped in silence. Memory stays small: a file is read whole only up to `MAX_BYTES`.

    {"text": …, "source": "notes/a.md", "lang": "en", "licence": "CC-BY-4.0", "kind": "docs"}

is a document; only `text` must be there in a JSON or Parquet record, the rest is filled in from the file's name.
Not here: HTML, WARC and remote paths.
"""

import io
import itertools
import json
import re
import unicodedata
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import zstandard

from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import open_bytes
from qianwen.runtime.translation import tr

CARD = "README.md"  # of a corpus, which is not one of its documents
MAX_BYTES = 64 * 2**20  # of one text file or one JSON line; more is no document
PIECE = 16_384  # characters; a longer prose file becomes several documents, cut between paragraphs
SURROGATE = re.compile("[\ud800-\udfff]")
UNKNOWN = "unknown"
KINDS = {".txt": "text", ".md": "docs", ".markdown": "docs", ".rst": "docs", ".tex": "docs"} | dict.fromkeys(
    (".py", ".js", ".ts", ".c", ".h", ".cpp", ".java", ".go", ".rs", ".rb", ".sh", ".sql"), "code"
)
PACKED = (".gz", ".zst")


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
    reason: str
    detail: str = ""


def read_folder(path: str | Path) -> Iterator[Document | Rejected]:
    """Everything in `path` (a folder or one file), in the order of its names. Hidden files are passed over.

    Raises DataError when there is nothing at `path`.
    """
    root = Path(path)
    if not root.exists():
        raise DataError(tr("{path}: no such file or folder", path=root))
    inside = sorted(file for file in root.rglob("*") if file.is_file()) if root.is_dir() else [root]
    for file in inside:
        name = file.relative_to(root).as_posix() if root.is_dir() else file.name
        if not any(part.startswith(".") for part in Path(name).parts) and not is_about(file, file.parent):
            yield from read_file(file, name)


def is_about(file: Path, folder: Path) -> bool:
    """Whether a file is about the corpus in its folder, not of it: the manifest, and the card beside one."""
    return file.name == MANIFEST or (file.name == CARD and (folder / MANIFEST).exists())


def documents(path: str | Path) -> Iterator[Document]:
    """Those of `read_folder` that could be read; for a corpus whose rejected ones are known already."""
    return (found for found in read_folder(path) if not isinstance(found, Rejected))


def read_file(file: Path, name: str) -> Iterator[Document | Rejected]:
    """The documents of one file, `name` being what to call it."""
    suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    suffix = suffixes[-1] if suffixes else ""
    try:
        if suffix in (".jsonl", ".ndjson"):
            yield from _json_lines(file, name)
        elif suffix == ".parquet" and not packed:
            yield from _parquet(file, name)
        elif suffix in KINDS:
            yield from plain_file(file, name, KINDS[suffix])
        else:
            yield Rejected(name, 0, tr("not a kind of file this reads"), suffix)
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        yield Rejected(name, 0, tr("unreadable"), str(error))


def clean(text: str) -> str:
    """The text as every later stage sees it: NFC, as the tokenizer will make it, and `\\n` at the end of lines."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).strip("\n")


def plain_file(file: Path, name: str, kind: str) -> Iterator[Document | Rejected]:
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
        return Rejected("", 0, tr("longer than {size} MB", size=MAX_BYTES // 2**20))
    if b"\x00" in data:
        return Rejected("", 0, tr("holds NUL bytes"))
    try:
        text = clean(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        return Rejected("", line, tr("not UTF-8"), str(error))
    return text if text.strip() else Rejected("", 0, tr("empty"))


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


def _json_lines(file: Path, name: str) -> Iterator[Document | Rejected]:
    with open_bytes(file) as handle:
        for number, line in enumerate(lines_of(handle), start=1):
            if isinstance(line, str):
                yield Rejected(name, number, line)
            elif line.strip():
                yield parsed(line, name, number)


def lines_of(handle: io.BufferedIOBase) -> Iterator[bytes | str]:
    """Lines no longer than MAX_BYTES; a longer one is skipped and stands there as the reason."""
    while line := handle.readline(MAX_BYTES + 1):
        if len(line) <= MAX_BYTES:
            yield line
            continue
        while line and not line.endswith(b"\n"):
            line = handle.readline(MAX_BYTES)
        yield tr("a line longer than {size} MB", size=MAX_BYTES // 2**20)


def parsed(line: bytes, name: str, number: int) -> Document | Rejected:
    try:
        row = json.loads(line.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        return Rejected(name, number, tr("not JSON in UTF-8"), str(error))
    return document_of(row, name, number)


def _parquet(file: Path, name: str) -> Iterator[Document | Rejected]:
    import pyarrow
    from pyarrow import parquet

    try:
        batches = parquet.ParquetFile(file).iter_batches(batch_size=512)
        rows = itertools.chain.from_iterable(batch.to_pylist() for batch in batches)
        for number, row in enumerate(rows, start=1):
            yield document_of(row, name, number)
    except pyarrow.ArrowException as error:
        yield Rejected(name, 0, tr("unreadable"), str(error))


def document_of(row: Any, name: str, number: int) -> Document | Rejected:
    """A record as a document; `content` and `license` are taken for what they mean."""
    if not isinstance(row, dict):
        return Rejected(name, number, tr("not an object"))
    text = row.get("text", row.get("content"))
    if not isinstance(text, str):
        return Rejected(name, number, tr("no `text` in it"))
    if not text or text.isspace():
        return Rejected(name, number, tr("empty"))
    if "\x00" in text:
        return Rejected(name, number, tr("holds NUL bytes"))
    if not text.isascii() and SURROGATE.search(text):
        return Rejected(name, number, tr("holds half a surrogate pair"))
    document = Document(
        text=clean(text),
        source=str(row.get("source") or f"{name}:{number}"),
        lang=str(row.get("lang") or UNKNOWN),
        licence=str(row.get("licence") or row.get("license") or UNKNOWN),
        kind=str(row.get("kind") or "text"),
    )
    if row.get("url"):
        document["url"] = str(row["url"])
    if row.get("passed"):
        document["passed"] = str(row["passed"])
    return document
