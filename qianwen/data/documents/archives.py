"""Corpora that ship inside archives, as documents: speeches, a novel, Chinese poems and classics.

Each function goes through the archives it is given and yields a document for every speech, chapter or poem. Whatever in
an archive is of another shape (authors, indexes, notes) is passed over.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from qianwen.data.documents.document import Document, clean
from qianwen.data.documents.language_id import is_traditional

COLLECTIONS_OF_POEMS = "dist"  # the folder of the package whose folders are collections
NOTES = ("author", "rank", "strains", "error")  # folders and files that hold no poem


def speeches(archives: Sequence[Path]) -> Iterator[Document]:
    """Addresses on the state of the union, one document each."""
    for name, row in _rows(archives):
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            source = f"state-of-the-union:{Path(name).stem}"
            yield Document(text=clean(row["text"]), source=source, lang="en", licence="CC0-1.0", kind="speech")


def chapters(archives: Sequence[Path]) -> Iterator[Document]:
    """Moby-Dick, a document a chapter."""
    for name, row in _rows(archives):
        if isinstance(row, dict) and isinstance(row.get("text"), str):
            text = clean(f"{row.get('title', '')}\n\n{row['text']}")
            source = f"moby-dick:{Path(name).stem}"
            yield Document(text=text, source=source, lang="en", licence="CC0-1.0", kind="book")


def poems(archives: Sequence[Path]) -> Iterator[Document]:
    """Chinese poems and classics, a document a poem or chapter; in the characters they are written in."""
    for name, row in _rows(archives):
        folders = name.split("/")
        if COLLECTIONS_OF_POEMS not in folders or any(part.startswith(NOTES) for part in folders):
            continue
        collection = folders[folders.index(COLLECTIONS_OF_POEMS) + 1]
        for number, poem in enumerate(row if isinstance(row, list) else [row]):
            if text := _poem(poem):
                source = f"chinese-poetry:{collection}/{Path(name).stem}#{number}"
                lang = "zh-Hant" if is_traditional(text) else "zh"
                yield Document(text=text, source=source, lang=lang, licence="MIT", kind="poem")


def _poem(poem: Any) -> str:
    """Title, author and lines, where there are lines."""
    if not isinstance(poem, dict):
        return ""
    lines = poem.get("paragraphs") or poem.get("content") or poem.get("para")
    if not isinstance(lines, list) or not lines or not all(isinstance(line, str) for line in lines):
        return ""
    title = poem.get("title") or poem.get("rhythmic") or poem.get("chapter") or ""
    head = "　".join(part for part in (title, poem.get("author", "")) if isinstance(part, str) and part)
    return clean("\n".join([head, *lines] if head else lines))


def _rows(archives: Sequence[Path]) -> Iterator[tuple[str, Any]]:
    """Name and content of every JSON file in the archives, in the order of their names."""
    for archive in archives:
        with tarfile.open(archive, "r:gz") as opened:
            members = {member.name: member for member in opened.getmembers() if member.isfile()}
            for name in sorted(members):
                if name.endswith(".json") and (file := opened.extractfile(members[name])):
                    yield name, json.loads(file.read().decode("utf-8-sig"))
