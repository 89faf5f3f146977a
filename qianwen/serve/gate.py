"""The one door: every request, of every route and page, passes here before any handler sees it.

    Host        must be a name of this server, so that a foreign name pointed at it (DNS rebinding) gets nothing
    Origin      a page of another site is refused unless its origin was allowed by name; there is no wildcard
    key         on every route but `/health`, whenever the server is not on loopback or keys are required;
                `Authorization: Bearer KEY`, or Basic with the key as password so that a browser can ask for it, or the
                cookie that the pages' login sets; a browser that comes without one is sent to that login
    log         one JSON line a request: route, status, time, key name. Never a body, a header, a query or a key

Host and Origin are answered with 403, a missing or wrong key with 401.
"""

from __future__ import annotations

import base64
import binascii
import json
import logging
import socket
import time
import uuid
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr
from qianwen.serve.fault import log_fault
from qianwen.serve.prometheus import Metrics
from qianwen.serve.protocol import error_body
from qianwen.serve.store import Key, Store

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})
OPEN_PATHS = frozenset({"/health"})
ANONYMOUS = Key("local")
COOKIE = "qianwen_key"  # HttpOnly and SameSite=Strict: no script and no other site can use it
MAX_HEADER = 1024  # an Authorization header longer than any key of ours is wrong without hashing it

log = logging.getLogger("qianwen.serve")


def is_loopback(host: str) -> bool:
    """Whether an address or name to bind to can be reached from this machine alone."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, or a ConfigError that says why not.

    It must know that it speaks TCP: asyncio lets small writes go at once only then, else each answer waits 40 ms for
    the client's delayed acknowledgement.
    """
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except OSError as error:
        address = f"{host}:{port}"
        message = tr("cannot listen on {address} ({reason}): choose another --port", address=address, reason=error)
        raise ConfigError(message) from error
    return listener


@dataclass(frozen=True, kw_only=True)
class Door:
    """Whom to let in."""

    hosts: frozenset[str] = LOOPBACK  # names without port; "*" for any
    origins: frozenset[str] = frozenset()  # such as "https://chat.example.org"
    keys_required: bool = False
    store: Store | None = field(default=None, repr=False)
    login: str = ""  # path of the page that asks for a key; empty: there are no pages

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """Why the Host or Origin of a request is not acceptable, or None."""
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_ours(hosts[0].decode("latin-1")):
            return tr("unknown Host: start the server with --allow-host NAME to answer to another name")
        for origin in (value.decode("latin-1") for name, value in headers if name == b"origin"):
            if origin not in self.origins and urlsplit(origin).netloc != hosts[0].decode("latin-1"):
                return tr("pages of another site may not use this server: --allow-origin ORIGIN allows one")
        return None

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return "*" in self.hosts or name in self.hosts

    def visitor(self, headers: list[tuple[bytes, bytes]]) -> Key | None:
        """The key a request shows; `ANONYMOUS` where none is needed; None when it must be turned away."""
        sent = [value for name, value in headers if name == b"authorization"]
        secrets = [_secret(value) if len(value) <= MAX_HEADER else "" for value in sent] or _cookies(headers)
        if self.store is None or (not secrets and not self.keys_required):
            return None if self.keys_required else ANONYMOUS
        found = self.store.find_key(secrets[0]) if len(secrets) == 1 else None
        return found if self.keys_required or found else ANONYMOUS


def _cookies(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """The keys that cookies carry: one, unless something is wrong."""
    pairs = [
        pair.strip() for name, value in headers if name == b"cookie" for pair in value.decode("latin-1").split(";")
    ]
    keys = [pair.removeprefix(f"{COOKIE}=") for pair in pairs if pair.startswith(f"{COOKIE}=")]
    return [key if len(key) <= MAX_HEADER else "" for key in keys]


def _secret(header: bytes) -> str:
    """The key inside an Authorization header, or an empty string, which no key is."""
    scheme, _, value = header.partition(b" ")
    if scheme.lower() == b"bearer":
        return value.decode("latin-1")
    if scheme.lower() == b"basic":
        try:
            return base64.b64decode(value, validate=True).decode("utf-8", "replace").partition(":")[2]
        except (binascii.Error, ValueError):
            return ""
    return ""


class Gate:
    """ASGI middleware that applies a `Door` and writes the log line."""

    def __init__(self, app: Callable, *, door: Door, metrics: Metrics) -> None:
        self.app, self.door, self.metrics = app, door, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started, status = time.monotonic(), 500
        scope["request_id"] = request_id = uuid.uuid4().hex
        origin = next(
            (v for n, v in scope["headers"] if n == b"origin" and v.decode("latin-1") in self.door.origins), None
        )

        async def respond(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                extra = [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]
                if origin is not None:
                    extra += [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
                message["headers"] = [*message.get("headers", ()), *extra]
            await send(message)

        try:
            await self._enter(scope, receive, respond, preflight=origin is not None)
        except Exception as error:  # answered already, if that was possible; the server would print its text
            log_fault(error, request_id)
        finally:
            self._note(scope, status, time.monotonic() - started)

    async def _enter(self, scope: Scope, receive: Receive, send: Send, *, preflight: bool) -> None:
        if reason := self.door.refusal(scope["headers"]):
            await _answer(send, 403, error_body(reason, kind="permission_error", code="forbidden"))
        elif preflight and scope["method"] == "OPTIONS":
            allowed = [(b"access-control-allow-headers", b"authorization, content-type")]
            await _answer(send, 204, None, [*allowed, (b"access-control-allow-methods", b"GET, POST")])
        else:
            is_open = scope["path"] in (*OPEN_PATHS, self.door.login)
            scope["key"] = ANONYMOUS if is_open else self.door.visitor(scope["headers"])
            if scope["key"] is None and self.door.login and _shows_a_page(scope):
                await _answer(send, 303, None, [(b"location", self.door.login.encode())])
            elif scope["key"] is None:
                body = error_body(
                    tr("this server needs an API key"), kind="authentication_error", code="invalid_api_key"
                )
                scheme = b"Bearer" if self.door.login else b"Basic"  # at Basic a browser would open a dialog of its own
                await _answer(send, 401, body, [(b"www-authenticate", scheme + b' realm="qianwen"')])
            else:
                await self.app(scope, receive, send)

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        self.metrics.count("http_requests_total", route=route, status=str(status))
        self.metrics.observe("http_request_seconds", seconds)
        entry = {
            "id": scope["request_id"], "method": scope["method"], "route": route, "status": status,
            "ms": round(seconds * 1e3, 1), "key": getattr(scope.get("key"), "name", None),
        }  # fmt: skip
        log.info(json.dumps(entry, ensure_ascii=True))


def _shows_a_page(scope: Scope) -> bool:
    accepted = [value for name, value in scope["headers"] if name == b"accept"]
    return scope["method"] == "GET" and any(b"text/html" in value for value in accepted)


async def _answer(send: Send, status: int, body: dict | None, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode()), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})
