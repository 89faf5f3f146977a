"""The body of an HTTP answer as its author wrote it: pieces joined (chunked), compression undone.

Crawlers store bodies either as sent or decoded, often under the headers of the one and with the bytes of the other. So
what is named is undone where the bytes agree, and a body that only claims an encoding stays as it is.
"""

import codecs
import io
import re
import zlib
from collections.abc import Iterable

import zstandard

from qianwen.data.documents.document import Rejected
from qianwen.data.documents.drop_reasons import DropReason

CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")
GZIP, ZSTD = b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd"
CODINGS = {"x-gzip": "gzip", "x-deflate": "deflate", "x-brotli": "br", "brotli": "br", "x-zstd": "zstd"}
NOT_TEXT = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
HEAD = 1024  # bytes looked at


def body(data: bytes, headers: Iterable[tuple[str, str]], limit: int) -> bytes | Rejected:
    """At most `limit` + 1 bytes of the decoded body, or why it cannot be decoded."""
    transfer, content = _codings(headers, "transfer-encoding"), _codings(headers, "content-encoding")
    if "chunked" in transfer:
        data = joined(data)
    applied = [coding for coding in (*content, *transfer) if coding not in ("chunked", "identity", "")]
    if not applied and data.startswith(GZIP):  # a compressed file, served under the type of what is in it
        applied = ["gzip"]
    for coding in reversed(applied):
        plain = _decoded(data, coding, limit)
        if isinstance(plain, Rejected):
            return plain
        data = plain
    return data


def _codings(headers: Iterable[tuple[str, str]], name: str) -> list[str]:
    """The codings of all headers of a name, in the order they were applied in."""
    values = [value for key, value in headers if key.strip().lower() == name]
    codings = [coding.strip().lower() for value in values for coding in value.split(",")]
    return [CODINGS.get(coding, coding) for coding in codings]


def joined(data: bytes) -> bytes:
    """A chunked body without the sizes of its chunks; `data` itself if it is not chunked."""
    chunks, place = [], 0
    while match := CHUNK.match(data, place):
        size, place = int(match[1], 16), match.end()
        if size == 0:
            return b"".join(chunks)
        chunks.append(data[place : place + size])
        place += size
        if place >= len(data):  # cut off where the crawler stopped
            return b"".join(chunks)
        place += 2 if data.startswith(b"\r\n", place) else data.startswith(b"\n", place)
    return data


def _decoded(data: bytes, coding: str, limit: int) -> bytes | Rejected:
    """The body before this coding was applied."""
    try:
        if coding == "gzip" and data.startswith(GZIP[:2]):
            return _inflated(data, 31, limit)
        if coding == "zstd" and data.startswith(ZSTD):
            return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read(limit + 1)
        if coding == "deflate" and not _is_text(data):
            try:
                return _inflated(data, 15, limit)
            except zlib.error:
                return _inflated(data, -15, limit)  # without the header, as servers of the 1990s sent it
        if coding == "br" and not _is_text(data):
            return _unbrotlied(data, limit)
    except EOFError:
        return Rejected("", 0, DropReason.TRUNCATED_RECORD)
    except ModuleNotFoundError as error:
        return Rejected("", 0, DropReason.MISSING_PACKAGE, error.name or "")
    except (zlib.error, zstandard.ZstdError):
        return Rejected("", 0, DropReason.CONTENT_ENCODING, coding)
    return data if _is_text(data) else Rejected("", 0, DropReason.CONTENT_ENCODING, coding)


def _is_text(data: bytes) -> bool:
    """Whether a body is text already, so that it only claims to be compressed."""
    return NOT_TEXT.search(data, 0, HEAD) is None or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))


def _inflated(data: bytes, bits: int, limit: int) -> bytes:
    """All members of a compressed body. Raises EOFError where it ends too early."""
    plain = b""
    while data and len(plain) <= limit:
        inflater = zlib.decompressobj(bits)
        plain += inflater.decompress(data, limit + 1 - len(plain))
        if not inflater.eof:
            if len(plain) <= limit:
                raise EOFError
            break
        data = inflater.unused_data if inflater.unused_data.startswith(GZIP[:2]) else b""
    return plain


def _unbrotlied(data: bytes, limit: int) -> bytes:
    import brotli

    decompressor = brotli.Decompressor()
    try:
        plain = decompressor.process(data, output_buffer_limit=limit + 1)
    except brotli.error as error:
        raise zlib.error(str(error)) from error
    if not decompressor.is_finished() and len(plain) <= limit:
        raise EOFError
    return plain
