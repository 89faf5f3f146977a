"""JSON in any form of Unicode as UTF-8 without a byte order mark.

Windows programs write UTF-16, often with a byte order mark. The first four bytes show the form, with a mark or without
one: JSON begins with a character of ASCII, so the zero bytes are at known places (RFC 4627, section 3). Lines can only
be cut out of UTF-8, because in UTF-16 the byte of a line break is also a half of other characters.
"""

import codecs
import io
from json import detect_encoding
from typing import Any

NUM_BYTES = 1 << 16  # that are converted at a time
HALF = "\udcff"  # half of a surrogate pair: no text has it alone, and UTF-8 has no valid form of it

codecs.register_error("qianwen_half", lambda error: (HALF, error.end))  # type: ignore[attr-defined]


def is_wide(head: bytes) -> bool:
    """Whether JSON that begins with `head` is in UTF-16 or UTF-32."""
    return not detect_encoding(head[:4]).startswith("utf-8")


def head_as_utf8(head: bytes) -> bytes:
    """The first bytes of JSON in UTF-8; a character that is cut off at their end is left out."""
    return _decoder(head).decode(head).encode("utf-8", "surrogatepass") if is_wide(head) else head


def as_utf8(file: Any) -> Any:
    """A file of JSON that is open at its start (and has `peek`) as a file in UTF-8 without a mark.

    A code unit that is not valid becomes bytes that are not UTF-8, so that only its own line is wrong.
    """
    try:
        head = file.peek(4)[:4]
    except Exception:  # a damaged archive
        file.close()
        raise
    if is_wide(head):
        return io.BufferedReader(_Recoded(file, _decoder(head)), NUM_BYTES)
    if head.startswith(codecs.BOM_UTF8):
        file.read(len(codecs.BOM_UTF8))
    return file


def _decoder(head: bytes) -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder(detect_encoding(head[:4]))("qianwen_half")


class _Recoded(io.RawIOBase):
    """The text of a file as UTF-8."""

    def __init__(self, file: Any, decoder: codecs.IncrementalDecoder) -> None:
        self._file, self._decoder = file, decoder
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._file.read(NUM_BYTES)
            if not data:
                return 0
            self._ready = memoryview(self._decoder.decode(data).encode("utf-8", "surrogatepass"))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def close(self) -> None:
        self._file.close()
        super().close()
