"""From a path to documents: the one way in, for pretraining, vocabularies, curation, ablations and calibration.

    read_documents       everything at a path (a file or a folder, here or remote), in the order of its names
    readable_documents   the same without what could not be read
    read_file            one file of any kind, or one of the parts it is divided into (`curate/input_parts.py`)

Read are text and source code (`text_files.py`), JSON lines and Parquet (`record_files.py`), HTML (`extract.py`), WARC
and WET (`crawl_files.py`), plain or packed (gzip, bzip2, xz, zstd), and the files in ZIP archives. What a file is, its
content says (`file_content.py`); the name decides only where several kinds of text are possible. Whatever cannot be
read comes out as `Rejected` with its file, line and reason, in its place among the documents, and the reading goes on.
Memory stays small: a file is read whole only up to `MAX_BYTES`, and of a WARC file one page at a time.
"""

import io
import lzma
import tempfile
import zipfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import zstandard

from qianwen.data.documents.crawl_files import warc_file
from qianwen.data.documents.document import WHOLE_FILE, Document, FilePart, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.extract import html_page
from qianwen.data.documents.file_content import HEAD, PARQUET, WARC, ZIP, binary_kind, is_html, is_json_lines
from qianwen.data.documents.language_id import BY_EXTENSION, code_language
from qianwen.data.documents.parquet_files import parquet_file
from qianwen.data.documents.record_files import json_lines, json_lines_between
from qianwen.data.documents.text_files import KINDS, text_file
from qianwen.data.documents.zip_members import zip_kind, zip_members
from qianwen.data.file_listing import ListedFile, list_files, local_copy, printable
from qianwen.runtime.atomic import MANIFEST
from qianwen.runtime.files import open_bytes
from qianwen.runtime.json_bytes import as_utf8, head_as_utf8, is_wide

CARD = "README.md"  # of a corpus, which is not one of its documents
PACKED = (".gz", ".zst", ".bz2", ".xz")
JSON_LINES, HTML, WARC_NAMES = (".jsonl", ".ndjson"), (".html", ".htm", ".xhtml"), (".warc", ".wet", ".wat")


def read_documents(path: str | Path) -> Iterator[Document | Rejected]:
    """Everything at `path`, in the order of its names. Hidden files are passed over.

    Raises DataError when there is nothing at `path`.
    """
    for file in corpus_files(str(path)):
        with local_copy(file.path, Path(tempfile.gettempdir())) as local:
            yield from read_file(local, file.name)


def readable_documents(path: str | Path) -> Iterator[Document]:
    """The documents at `path` that could be read; for a corpus whose rejected ones are known already."""
    return (document for document in read_documents(path) if not isinstance(document, Rejected))


def corpus_files(path: str) -> list[ListedFile]:
    """The files at `path` that may hold documents: not a manifest, and not the card beside one."""
    files = list_files(path)
    names = {file.name for file in files}
    return [file for file in files if not _describes_corpus(file.name, names)]


def _describes_corpus(name: str, names: Collection[str]) -> bool:
    folder, slash, file = name.rpartition("/")
    return file == MANIFEST or (file == CARD and f"{folder}{slash}{MANIFEST}" in names)


def file_kind(name: str) -> tuple[str, str]:
    """What a name says of a file: `(".jsonl", ".zst")` of `a.jsonl.zst`."""
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    packed = suffixes.pop() if suffixes and suffixes[-1] in PACKED else ""
    return (suffixes[-1] if suffixes else ""), packed


def read_file(
    file: Path, name: str, *, part: FilePart = WHOLE_FILE, blocked: Collection[str] = ()
) -> Iterator[Document | Rejected]:
    """The documents of a file, or of a part of it, `name` being what to call it.

    Pages of the hosts and URLs in `blocked` are left out of a WARC file before they are parsed.
    """
    try:
        yield from _read(file, name, part, blocked)
    except ModuleNotFoundError as error:
        yield Rejected(name, 0, DropReason.MISSING_PACKAGE, error.name or "")
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstandard.ZstdError, zipfile.BadZipFile) as error:
        yield Rejected(name, 0, DropReason.UNREADABLE, str(error))


def _read(file: Path, name: str, part: FilePart, blocked: Collection[str]) -> Iterator[Document | Rejected]:
    with file.open("rb") as plain:
        start = plain.read(HEAD)
    suffix, _ = file_kind(name)
    if start.startswith(ZIP):
        if part.k == 0:
            yield from _members(file, name)
        return
    if start.startswith(PARQUET) or (suffix == ".parquet" and not start):
        yield from parquet_file(file, name, part=part)
        return
    with io.BufferedReader(open_bytes(file), HEAD) as handle:  # pyrefly: ignore  what it needs of a raw file is there
        head = handle.peek(HEAD)
        if head.startswith(WARC) or (suffix in WARC_NAMES and not binary_kind(head) and not is_html(head)):
            yield from warc_file(file, name, part=part, blocked=blocked)
        elif part.n > 1 and head == start[: len(head)] and not is_wide(head) and _holds_records(head, suffix):
            yield from json_lines_between(file, name, part)
        else:
            yield from _text(handle, head, name, part)


def _members(file: Path, name: str) -> Iterator[Document | Rejected]:
    """The documents of the files in a ZIP archive."""
    if kind := zip_kind(file):
        yield Rejected(name, 0, kind)
        return
    for member, stream in zip_members(file):
        inside = f"{name}/{printable(member)}"
        if isinstance(stream, Rejected):
            yield stream._replace(file=inside)
            continue
        with io.BufferedReader(stream, HEAD) as handle:  # pyrefly: ignore  as above
            head = handle.peek(HEAD)
            if head.startswith((PARQUET, WARC)):
                yield Rejected(inside, 0, DropReason.ARCHIVE)
            else:
                yield from _text(handle, head, inside, WHOLE_FILE)


def _text(handle: "io.BufferedReader[Any]", head: bytes, name: str, part: FilePart) -> Iterator[Document | Rejected]:
    """The documents of an open file that is text, if it is."""
    suffix, _ = file_kind(name)
    if _holds_records(head, suffix):
        yield from json_lines(as_utf8(handle), name, part)
        return
    if part.k:  # the other formats are not divided
        return
    kind = KINDS.get(suffix) or ("code" if suffix in BY_EXTENSION or code_language(name) else "")
    if not head:
        yield Rejected(name, 0, DropReason.EMPTY)
    elif binary := binary_kind(head):
        yield Rejected(name, 0, binary)
    elif suffix in HTML or (kind in ("", "text") and is_html(head)):
        yield html_page(handle, name)
    else:
        yield from text_file(handle, name, kind)


def _holds_records(head: bytes, suffix: str) -> bool:
    """Whether a file is JSON lines: by its name, or because its first line is a record with a text."""
    return not binary_kind(head) and (suffix in JSON_LINES or is_json_lines(head_as_utf8(head)))
