"""Standard input and output that accept any bytes.

A pipe can hold bytes that are not in its encoding, and a console can lack a character of the text. Python raises an
error in both cases. Here the byte becomes U+FFFD and the character becomes `?`, and the command goes on.
"""

import codecs
import io
import sys
from contextlib import suppress


def accept_any_bytes() -> None:
    """Replace what cannot be decoded or encoded, on all three streams. Called once, where a command starts."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.errors == "replace":
            continue
        # A locale without an encoding (LANG=C) reads ASCII; UTF-8 reads the same texts and more.
        encoding = "utf-8" if stream is sys.stdin and _is_ascii(stream.encoding) else None
        with suppress(io.UnsupportedOperation):  # this stream was already read from
            stream.reconfigure(encoding=encoding, errors="replace")


def _is_ascii(encoding: str) -> bool:
    return codecs.lookup(encoding).name == "ascii"
