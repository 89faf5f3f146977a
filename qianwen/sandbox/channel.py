"""One channel to a kernel that may be hostile: ZMTP, the protocol of ZeroMQ, over a Unix socket, with limits.

Not by libzmq, although Jupyter's own client uses it: in it the parts of one message have no limit in number, and are
all stored until the last one, so a kernel can fill our memory. Here a message that exceeds a limit is read and dropped.

Of ZMTP 3.0 (rfc.zeromq.org/spec/23) this is the client's half without security: 64 bytes of greeting, one command that
names our kind of socket, then messages. A frame is a byte of flags, its length in 1 or 8 bytes, and its content.
"""

import os
import socket
import struct
import tempfile
from collections.abc import Iterator, Sequence
from typing import Literal

GREETING = b"\xff" + bytes(8) + b"\x7f" + bytes([3, 0]) + b"NULL".ljust(20, b"\0") + bytes(32)
MORE, LONG, COMMAND = 1, 2, 4
CHUNK = 1 << 16
MAX_PARTS = 8  # topic, delimiter, signature, header, parent's header, metadata, content, one buffer


class BrokenChannel(Exception):
    """The other side closed the channel, or does not speak the protocol."""


class Messages:
    """Cut the bytes that arrive into messages. A message is a list of parts.

    `text_bytes` limits each part but the eighth, which may have `buffer_bytes`.
    """

    def __init__(self, text_bytes: int, buffer_bytes: int) -> None:
        self._limits = [text_bytes] * (MAX_PARTS - 1) + [buffer_bytes]
        self._waiting = bytearray()
        self._skipping = len(GREETING)  # bytes that are read and not stored
        self._parts: list[bytearray] = []
        self._is_dropped = False
        self._flags = 0
        self._missing: int | None = None  # bytes of the frame that is being read; None: its head is awaited
        self.is_ready = False  # whether the other side has sent its command, so that messages may be sent
        self.num_dropped = 0

    def feed(self, data: bytes) -> Iterator[list[bytearray]]:
        """Take the next bytes, and return the messages that they complete."""
        self._waiting += data
        while True:
            skipped = min(self._skipping, len(self._waiting))
            del self._waiting[:skipped]
            self._skipping -= skipped
            if self._skipping or not (self._read_head() if self._missing is None else self._read_content()):
                return
            if self._missing is None and not self._flags & (MORE | COMMAND):
                parts, is_dropped, self._parts, self._is_dropped = self._parts, self._is_dropped, [], False
                self.num_dropped += is_dropped
                if not is_dropped:
                    yield parts

    def _read_head(self) -> bool:
        """Read flags and length; False if they have not arrived yet."""
        if not self._waiting:
            return False
        size = 9 if self._waiting[0] & LONG else 2
        if len(self._waiting) < size:
            return False
        self._flags = self._waiting[0]
        self._missing = int.from_bytes(self._waiting[1:size], "big")
        del self._waiting[:size]
        limit = self._limits[len(self._parts)] if len(self._parts) < MAX_PARTS else -1
        if self._flags & COMMAND or self._is_dropped or self._missing > limit:
            self._is_dropped = self._is_dropped or not self._flags & COMMAND
            self._skipping, self._missing = self._missing, 0
        return True

    def _read_content(self) -> bool:
        """Read the frame that was announced; False if not all of it has arrived."""
        assert self._missing is not None
        if len(self._waiting) < self._missing:
            return False
        self.is_ready = self.is_ready or bool(self._flags & COMMAND)
        if not (self._flags & COMMAND or self._is_dropped):
            self._parts.append(self._waiting[: self._missing])
            del self._waiting[: self._missing]
        self._missing = None
        return True


class Channel:
    """A connection to a kernel. Before the kernel runs it has two ends: `listener` is the kernel's."""

    def __init__(self, kind: Literal["DEALER", "SUB"], messages: Messages) -> None:
        self._messages = messages
        self.num_read = 0  # bytes
        self.listener, self._socket = _connected_pair()
        ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind.encode()
        self._socket.sendall(GREETING + bytes([COMMAND, len(ready)]) + ready)
        # The other side takes a message before its own command for an error.
        self._subscription = b"\x00\x01\x01" if kind == "SUB" else b""  # to everything

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, parts: Sequence[bytes], seconds: float) -> None:
        """Send a message; BrokenChannel if the other side does not take it in time."""
        self._socket.settimeout(seconds)
        try:
            for number, part in enumerate(parts, start=1):
                flags = LONG | (MORE if number < len(parts) else 0)
                self._socket.sendall(struct.pack(">BQ", flags, len(part)))
                self._socket.sendall(part)
        except OSError as error:
            raise BrokenChannel(str(error)) from None

    def receive(self) -> Iterator[list[bytearray]]:
        """The messages that are complete with the bytes that wait now, of which there must be some."""
        try:
            data = self._socket.recv(CHUNK)
        except OSError as error:
            raise BrokenChannel(str(error)) from None
        if not data:
            raise BrokenChannel("closed")
        self.num_read += len(data)
        yield from self._messages.feed(data)
        if self._subscription and self.is_ready:
            self._socket.sendall(self._subscription)
            self._subscription = b""

    @property
    def is_ready(self) -> bool:
        """Whether messages may be sent."""
        return self._messages.is_ready

    @property
    def num_dropped(self) -> int:
        """Messages that exceeded a limit."""
        return self._messages.num_dropped

    def close(self) -> None:
        self.listener.close()
        self._socket.close()


def _connected_pair() -> tuple[socket.socket, socket.socket]:
    """A listening socket and a connection that waits in it. Its name in the file system is gone: nobody else connects.

    A Unix pair would be simpler, but libzmq accepts only listening sockets from outside.
    """
    listener, connection = socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)
    with tempfile.TemporaryDirectory(prefix="qianwen-channel-") as folder:
        place = os.open(folder, os.O_PATH)
        path = f"/proc/self/fd/{place}/socket"  # the path of a socket has at most 107 bytes
        listener.bind(path)
        listener.listen(1)
        connection.connect(path)
        os.close(place)
    return listener, connection
