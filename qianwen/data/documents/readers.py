"""From a path to documents: the one way in, for pretraining, vocabularies, curation, ablations and calibration.

    read_documents       everything at a path (a file or a folder, here or remote), in the order of its names
    readable_documents   the same without what could not be read
    read_file            one file of any kind, or one of the parts it is divided into (`curate/input_parts.py`)

Read are text, Markdown and source code (`text_files.py`), JSON lines and Parquet (`record_files.py`), HTML, WARC and
WET (`extract.py`); JSON lines and text packed as `.gz` or `.zst` too. Whatever cannot be read comes out as `Rejected`
with its file, line and reason, in its place among the documents, and the reading goes on.
Memory stays small: a file is read whole only up to `MAX_BYTES`, and of a WARC file one page at a time.
"""

import tempfile
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import zstandard

from qianwen.data.documents.document import WHOLE_FILE, Document, FilePart, Rejected
from qianwen.data.documents.drop_reasons import DropReason
from qianwen.data.documents.extract import html_file, warc_file
from qianwen.data.documents.language_id import BY_EXTENSION, code_language
from qianwen.data.documents.record_files import json_lines_file, parquet_file
from qianwen.data.documents.text_files import KINDS, text_file
from qianwen.data.file_listing import ListedFile, list_files, local_copy
from qianwen.runtime.atomic import MANIFEST

CARD = "README.md"  # of a corpus, which is not one of its documents
PACKED = (".gz", ".zst")
JSON_LINES, HTML, WARC = (".jsonl", ".ndjson"), (".html", ".htm", ".xhtml"), (".warc", ".wet", ".wat")


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
    """How a file is read, by its name: `(".jsonl", ".zst")` of `a.jsonl.zst`."""
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
    except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
        yield Rejected(name, 0, DropReason.UNREADABLE, str(error))


def _read(file: Path, name: str, part: FilePart, blocked: Collection[str]) -> Iterator[Document | Rejected]:
    suffix, packed = file_kind(name)
    if suffix in JSON_LINES:
        yield from json_lines_file(file, name, part=part, is_packed=bool(packed))
    elif suffix == ".parquet" and not packed:
        yield from parquet_file(file, name, part=part)
    elif suffix in WARC:
        yield from warc_file(file, name, part=part, blocked=blocked)
    elif suffix in HTML and not packed:
        yield html_file(file, name)
    elif suffix in KINDS:
        yield from text_file(file, name, KINDS[suffix])
    elif suffix in BY_EXTENSION or code_language(name):
        yield from text_file(file, name, "code")
    else:
        yield Rejected(name, 0, DropReason.UNSUPPORTED_FILE, suffix)
