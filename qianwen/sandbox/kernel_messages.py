"""Jupyter's messages: a request to run a cell, and what a kernel sends about it, read as if it were hostile.

A message is a list of parts: addresses, a delimiter, a signature, four JSON objects (header, header of the request,
metadata, content) and bytes (jupyter-client.readthedocs.io, "Messaging in Jupyter"). What is not in this form is None:
JSON that is too deep, another type, a wrong signature. The key is known to the kernel, so a signature proves no more
than that the message is from there.
"""

import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

DELIMITER = b"<IDS|MSG>"
VERSION = "5.3"  # of the protocol


@dataclass(frozen=True)
class Message:
    """A message of a kernel. The values in `content` may have any type."""

    kind: str
    request: str  # the id of the request that it is about
    content: Mapping[str, Any]
    buffer: bytes


def run_request(code: str, files: Mapping[str, bytes], key: str) -> tuple[str, list[bytes]]:
    """A request to write files and to run a cell: its id, and its parts."""
    request = uuid4().hex
    header = {"msg_id": request, "session": "", "username": "", "date": "", "msg_type": "execute_request"}
    content = {
        "code": code.encode("utf-8", "replace").decode(),
        "store_history": False,
        "allow_stdin": False,
        "stop_on_error": False,
    }
    objects = (header | {"version": VERSION}, {}, {"files": list(files)}, content)
    parts = [json.dumps(each).encode() for each in objects]
    return request, [DELIMITER, _signature(parts, key), *parts, *files.values()]


def read_message(parts: Sequence[bytes | bytearray], key: str) -> Message | None:
    """The message that these parts are, or None."""
    if DELIMITER not in parts:
        return None
    signature, *body = parts[list(parts).index(DELIMITER) + 1 :] or [b""]
    if len(body) < 4 or not hmac.compare_digest(bytes(signature), _signature(body[:4], key)):
        return None
    try:
        header, request, _, content = (json.loads(part) for part in body[:4])
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(each, dict) for each in (header, request, content)):
        return None
    kind, request = header.get("msg_type"), request.get("msg_id", "")
    if not (isinstance(kind, str) and isinstance(request, str)):
        return None
    return Message(kind, request, content, bytes(body[4]) if len(body) > 4 else b"")


def _signature(parts: Sequence[bytes | bytearray], key: str) -> bytes:
    return hmac.new(key.encode(), b"".join(parts), hashlib.sha256).hexdigest().encode()
