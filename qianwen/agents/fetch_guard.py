"""Fetch an address that a model chose, without reaching anything that is not public.

An address can name this machine or its network in many ways: as a number in octal, inside an IPv6 address, by a name
whose owner points it to 127.0.0.1, by a redirect, or by a name that changes between the check and the connection. So
the check is made where it cannot be avoided: the name is resolved once, every IP address that it has must be public,
and the connection is made to one of these IP addresses. Each redirect starts again from there.

Limits: http and https, 3 redirects, 5 MB before and after decompression, 10 seconds for everything, also if a byte
comes every second. There are no cookies, and no proxy is used, because a proxy would resolve the name again.

The user can allow hosts that are not public by name (`localhost:8000`); a redirect from another host reaches none of
them. Certificates are checked as usual.
"""

from __future__ import annotations

import functools
import http.client
import queue
import re
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from typing import Literal

import httpx

from qianwen import __version__
from qianwen.agents.web_address import Address, is_public, look_up, read_address, redirected
from qianwen.runtime.errors import ConfigError, ToolError, excerpt
from qianwen.runtime.translation import tr

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
REDIRECTS = frozenset((301, 302, 303, 307, 308))
PIECE = 1 << 16  # bytes of one read
MAX_MEMBERS = 8  # of a gzip body; what comes after them is dropped


@dataclass(frozen=True)
class Page:
    """An answer. `url` is the address after redirects; the names of headers are in lower case."""

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Guard:
    """Fetches addresses within limits. `allowed` hosts (`host` or `host:port`) need not be public."""

    allowed: Sequence[str] = ()
    resolve: Callable[[str, int], Sequence[str]] = look_up
    max_bytes: int = 5_000_000
    max_redirects: int = 3
    max_seconds: float = 10.0

    def __post_init__(self) -> None:
        for host in self.allowed:
            if not isinstance(host, str) or not re.fullmatch(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(:\d+)?", host.lower()):
                raise ConfigError(tr("allowed hosts are written as host or host:port; got {host}", host=excerpt(host)))

    def fetch(
        self,
        url: str,
        *,
        method: Method = "GET",
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
        seconds: float | None = None,
        same_origin: bool = False,
    ) -> Page:
        """The answer to a request, after redirects of GET and HEAD; ToolError if there is none.

        With `same_origin`, a redirect to another scheme, host or port is an error, so that no header reaches it.
        """
        end = time.monotonic() + min(self.max_seconds, self.max_seconds if seconds is None else seconds)
        address, came_from = read_address(url), None
        for _ in range(self.max_redirects + 1):
            page = self._request(address, came_from, method, {**_HEADERS, **(headers or {})}, content, end)
            location = page.headers.get("location")
            if page.status not in REDIRECTS or location is None or method not in ("GET", "HEAD"):
                return page
            came_from, address = address, redirected(address, location)
            if same_origin and address.origin != came_from.origin:
                message = "{host} redirects to {other}, which must not get this request"
                raise ToolError(tr(message, host=came_from.host, other=address.host))
        raise ToolError(tr("{url} redirects more than {count} times", url=excerpt(url), count=self.max_redirects))

    def _is_allowed(self, address: Address, came_from: Address | None) -> bool:
        """Whether the user allowed the host, and no other host sent us there."""
        host = f"[{address.host}]" if ":" in address.host else address.host
        names = {name.lower() for name in self.allowed}
        return bool(names & {host, f"{host}:{address.port}"}) and (came_from is None or came_from.host == address.host)

    def _pinned(self, address: Address, came_from: Address | None, end: float) -> list[str]:
        """The IP addresses of a host, all of them checked."""
        found = list(_within(lambda: self.resolve(address.host, address.port), end, address.host))
        if not found:
            raise ToolError(tr("there is no host {host}", host=address.host))
        if not self._is_allowed(address, came_from):
            for ip in found:
                if not is_public(ip):
                    message = "{host} has the address {ip}, which is not public, so it is not fetched"
                    raise ToolError(tr(message, host=address.host, ip=excerpt(ip)))
        return found

    def _request(
        self,
        address: Address,
        came_from: Address | None,
        method: Method,
        headers: Mapping[str, str],
        content: bytes | None,
        end: float,
    ) -> Page:
        """One request on a connection of its own."""
        try:
            sock = _connect(self._pinned(address, came_from, end), address.port, end)
            with closing(sock), _ended_at(end, sock):
                if address.scheme == "https":
                    sock = _tls().wrap_socket(sock, server_hostname=address.host)
                with closing(http.client.HTTPConnection(address.host, address.port)) as connection:
                    connection.sock = sock
                    connection.request(method, address.target, body=content, headers=dict(headers))
                    response = connection.getresponse()
                    body = self._read(response)
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, ToolError):
                raise
            _check_time(end, address.host)
            message = "{host} could not be fetched: {reason}"
            raise ToolError(tr(message, host=address.host, reason=str(error) or type(error).__name__)) from None
        _check_time(end, address.host)
        fields = {name.lower(): value for name, value in response.getheaders()}
        return Page(str(address), response.status, fields, self._decompressed(body, fields.get("content-encoding", "")))

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        """The body as it was sent; ToolError if it is longer than the limit or ends early."""
        pieces, size = [], 0
        while piece := response.read(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > self.max_bytes:
                raise self._too_long()
        if response.length:
            raise http.client.IncompleteRead(b"", response.length)
        return b"".join(pieces)

    def _too_long(self) -> ToolError:
        return ToolError(tr("the answer is longer than {size:.0f} MB", size=self.max_bytes / 1e6))

    def _decompressed(self, body: bytes, coding: str) -> bytes:
        if coding.strip().lower() in ("", "identity") or not body:
            return body
        if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
            raise ToolError(
                tr("the answer is compressed in a way that was not requested: {coding}", coding=excerpt(coding))
            )
        try:
            plain = _inflated(body, self.max_bytes + 1)
        except zlib.error:
            raise ToolError(tr("the compressed answer is damaged")) from None
        if len(plain) > self.max_bytes:
            raise self._too_long()
        return plain


_HEADERS = {
    "User-Agent": f"qianwen/{__version__}",
    "Accept": "text/html, text/*, application/json, */*;q=0.5",
    "Accept-Encoding": "gzip, deflate",
    "Connection": "close",
}


@functools.cache
def _tls() -> ssl.SSLContext:
    """What checks certificates; reading the list of authorities takes a while."""
    return httpx.create_ssl_context()


def _within(function: Callable[[], Sequence[str]], end: float, host: str) -> Sequence[str]:
    """The result of a look-up, which cannot be interrupted, or ToolError when the time is over."""
    results: queue.SimpleQueue[Sequence[str] | Exception] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put(function())
        except Exception as error:  # handed to the thread that waits
            results.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        result = results.get(timeout=max(0.0, end - time.monotonic()))
    except queue.Empty:
        raise _too_slow(host) from None
    if isinstance(result, socket.gaierror | UnicodeError):
        raise ToolError(tr("there is no host {host}", host=host))
    if isinstance(result, Exception):
        raise result
    return result


def _connect(addresses: Sequence[str], port: int, end: float) -> socket.socket:
    """A connection to the first address that answers."""
    failure: OSError | None = None
    for address in addresses:
        try:
            return socket.create_connection((address, port), timeout=max(0.001, end - time.monotonic()))
        except OSError as error:
            failure = error
    raise failure or OSError


@contextmanager
def _ended_at(end: float, sock: socket.socket) -> Generator[None]:
    """Shut the connection down at a time, whatever waits for it then: a TLS handshake, a header or a body."""
    with socket.socket(fileno=socket.dup(sock.fileno())) as copy:  # TLS takes the first descriptor over

        def shut() -> None:
            with suppress(OSError):
                copy.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(max(0.0, end - time.monotonic()), shut)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            timer.join()


def _check_time(end: float, host: str) -> None:
    if time.monotonic() >= end:
        raise _too_slow(host)


def _too_slow(host: str) -> ToolError:
    return ToolError(tr("{host} took too long to answer", host=host))


def _inflated(body: bytes, limit: int) -> bytes:
    """At most `limit` bytes of a body in gzip, in zlib's format, or in deflate without a head."""
    window = 47 if body[:2] == b"\x1f\x8b" or (body[0] & 15 == 8 and int.from_bytes(body[:2], "big") % 31 == 0) else -15
    plain = b""
    for _ in range(MAX_MEMBERS):
        inflater = zlib.decompressobj(window)
        plain += inflater.decompress(body, limit - len(plain))
        body = inflater.unused_data
        if len(plain) >= limit:
            break
        if not inflater.eof:
            raise zlib.error
        if not body.startswith(b"\x1f\x8b"):
            break
    return plain
