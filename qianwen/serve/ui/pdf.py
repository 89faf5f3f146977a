"""The text of a PDF, read in a process of its own: `python -m qianwen.serve.ui.pdf < file.pdf`.

A PDF of a stranger can ask for any amount of time and memory. The process has limits for both; its caller gets text or
one line of error, never a hang. Standard output is the text in UTF-8; status 3 means that pypdf is missing.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr

MAX_SECONDS = 30
MAX_BYTES = 2 * 2**30  # of memory
MAX_PAGES = 2000
NO_PYPDF = 3


async def pdf_text(data: bytes) -> str:
    """The text of all pages. RequestError if there is none, or if it takes more than the limits."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", __name__, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        output, _ = await asyncio.wait_for(process.communicate(data), MAX_SECONDS)
    except TimeoutError:
        raise RequestError(tr("this PDF takes longer than {seconds} s to read", seconds=MAX_SECONDS)) from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
    if process.returncode == NO_PYPDF:
        raise RequestError(tr("this server cannot read PDF files: install pypdf with pip install 'qianwen[ui]'"))
    if process.returncode:
        raise RequestError(tr("this PDF cannot be read: it is damaged, or protected by a password"))
    text = output.decode("utf-8", "replace")
    if not text.strip():
        raise RequestError(tr("this PDF contains no text; it may be a scan, which is an image"))
    return text


def _limit() -> None:
    """Limit the processor time and memory of this process, where the system can."""
    try:
        import resource
    except ImportError:  # Windows; there the caller's time limit remains
        return
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_SECONDS, MAX_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))


def main() -> int:
    """Read a PDF from standard input and write its text."""
    _limit()
    try:
        from pypdf import PdfReader
    except ImportError:
        return NO_PYPDF
    try:
        pages = PdfReader(io.BytesIO(sys.stdin.buffer.read())).pages
        texts = [page.extract_text().strip() for _, page in zip(range(MAX_PAGES), pages, strict=False)]
    except Exception:  # of any kind: the file is a stranger's
        return 1
    sys.stdout.buffer.write("\n\n".join(texts).encode("utf-8", "replace"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
