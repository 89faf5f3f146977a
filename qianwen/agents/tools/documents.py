"""The text of a file: plain text in any usual encoding, and PDF, Word and Excel files.

Text is decoded here. In the other formats a stranger can hide a hundred gigabytes or an endless loop, so they are read
in the sandbox (`document_reader.py`), within its limits.
"""

from __future__ import annotations

import codecs
import functools
import sys
from pathlib import Path, PurePosixPath

from qianwen.agents.tools import document_reader
from qianwen.runtime.errors import ToolError, excerpt
from qianwen.runtime.translation import tr
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Sandbox

MAX_BYTES = 50_000_000  # of a file that is read
MAX_TEXT = 8 << 20  # bytes of the text of a document
MAX_SECONDS = 30.0
KINDS = {".pdf": "pdf", ".docx": "docx", ".xlsx": "xlsx", ".xlsm": "xlsx"}
_MARKS = ((codecs.BOM_UTF8, "utf-8"), (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))


def text_of(name: str, data: bytes, seconds: float) -> str:
    """The text of a file by its name and bytes; ToolError if it has none. `seconds` are left for it."""
    if data.startswith(b"%PDF-"):
        return document_text("pdf", data, seconds)
    if data.startswith(b"PK") and (kind := KINDS.get(PurePosixPath(name).suffix.lower())):
        return document_text(kind, data, seconds)
    text = decode(data)
    if text is None:
        message = "{name} is neither text nor a PDF, Word (.docx) or Excel (.xlsx) file"
        raise ToolError(tr(message, name=excerpt(name)))
    return text


def decode(data: bytes) -> str | None:
    """The text of bytes: by their mark, as UTF-8, as Chinese (GB 18030), else as Windows-1252; None for other data."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if b"\0" in data:
        return None
    for encoding in ("utf-8", "gb18030"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    return data.decode("cp1252", "replace")


@functools.cache
def _sandbox() -> Sandbox:
    return Sandbox.open()


def document_text(kind: str, data: bytes, seconds: float) -> str:
    """The text of a PDF, Word or Excel file, read in the sandbox. ConfigError where there is no sandbox."""
    seconds = min(MAX_SECONDS, max(1.0, seconds))
    size = len(data) + (1 << 20)
    limits = Limits(
        cpu_seconds=seconds, wall_seconds=seconds, output_bytes=MAX_TEXT, file_bytes=size, folder_bytes=2 * size
    )
    program = Path(document_reader.__file__).read_bytes()
    files = {document_reader.NAME: data, "reader.py": program}
    outcome = _sandbox().run([sys.executable, "-I", "-B", "reader.py", kind], files=files, limits=limits)
    if outcome.status == "output":
        return outcome.stdout
    if outcome.status != "ok":
        reasons = {"timeout": tr("it takes too long"), "memory": tr("it takes too much memory")}
        reason = reasons.get(outcome.status) or outcome.stderr.strip().rpartition("\n")[2] or outcome.status
        raise ToolError(tr("the {kind} file cannot be read: {reason}", kind=kind, reason=excerpt(reason)))
    return outcome.stdout
