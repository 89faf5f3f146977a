"""The files inside a ZIP archive, in the order of their names, without unpacking it to the disk.

A ZIP archive is also the container of office documents, books and programs; those are recognised by the files that
every one of them holds.
"""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason

OFFICE = frozenset({"[Content_Types].xml", "mimetype", "META-INF/container.xml"})  # Word, OpenDocument, EPUB
PROGRAM = frozenset({"META-INF/MANIFEST.MF", "AndroidManifest.xml", "extension.vsixmanifest"})


def zip_kind(file: Path) -> DropReason | None:
    """What an archive is when it is not a collection of files. Raises BadZipFile."""
    with zipfile.ZipFile(file) as archive:
        names = frozenset(archive.namelist())
    if names & OFFICE:
        return DropReason.OFFICE_DOCUMENT
    return DropReason.PROGRAM if names & PROGRAM else None


def zip_members(file: Path) -> Iterator[tuple[str, IO[bytes] | Rejected]]:
    """Name and open stream of every file that is not hidden, or why it cannot be opened (it has a password)."""
    with zipfile.ZipFile(file) as archive:
        for info in sorted(archive.infolist(), key=lambda info: info.filename):
            if info.is_dir() or any(step.startswith((".", "__MACOSX")) for step in info.filename.split("/")):
                continue
            try:
                stream = archive.open(info)
            except (RuntimeError, zipfile.BadZipFile) as error:
                yield info.filename, Rejected("", 0, DropReason.UNREADABLE, str(error))
                continue
            with stream:
                yield info.filename, stream
