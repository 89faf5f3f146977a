"""Access control: every request, of every route and page, is checked here before a handler runs.

    Host        must be a name of this server. This stops DNS rebinding, where a foreign name resolves to this server
    Origin      requests from pages of other sites are refused unless the origin is listed; there is no wildcard
    key         needed on every route except `/health` if the server is not on loopback or keys are required:
                `Authorization: Bearer KEY`, or Basic with the key as password (browsers can ask for it), or the cookie
                that the login page sets; a browser without a key is redirected to the login page
    log         one JSON line per request: route, status, time, key name. Never a body, a header, a query or a key

A wrong Host or Origin gets a 403, a missing or wrong key a 401.
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
COOKIE = "qianwen_key"  # HttpOnly and SameSite=Strict: scripts and other sites cannot use it
MAX_PORT = 65535
MAX_HEADER = 1024  # bytes of an Authorization header; a longer one is refused without hashing it

log = logging.getLogger("qianwen.serve")


def is_loopback(host: str) -> bool:
    """Whether an address or name to listen on can be reached from this machine only."""
    try:
        return ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises ConfigError with the reason if the address cannot be used.

    The socket is made with its protocol number (TCP), because only then does asyncio set TCP_NODELAY. Without it each
    small answer waits 40 ms for the client's delayed acknowledgement.
    """
    if not 0 <= port <= MAX_PORT:
        raise ConfigError(
            tr("--port {port} does not exist; choose a number from 0 to {most}", port=port, most=MAX_PORT)
        )
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, proto)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(1024)
    except (OSError, UnicodeError) as error:  # UnicodeError: not a host name
        address = f"{host}:{port}"
        message = tr("cannot listen on {address} ({reason}); choose another --port", address=address, reason=error)
        raise ConfigError(message) from error
    return listener


@dataclass(frozen=True, kw_only=True)
class AccessRules:
    """The Hosts, Origins and keys that are accepted."""

    hosts: frozenset[str] = LOOPBACK  # names without port; "*" accepts any
    origins: frozenset[str] = frozenset()  # such as "https://chat.example.org"
    keys_required: bool = False
    show_runs: bool = False  # to every key; administrators always see the runs
    store: Store | None = field(default=None, repr=False)
    login: str = ""  # path of the login page; empty if there are no pages

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> str | None:
        """The reason to refuse the Host or Origin of a request, or None."""
        hosts = [value for name, value in headers if name == b"host"]
        if len(hosts) != 1 or not self._is_known_host(hosts[0].decode("latin-1")):
            return tr("the Host header is not a name of this server; add a name with --allow-host NAME")
        for origin in (value.decode("latin-1") for name, value in headers if name == b"origin"):
            if origin not in self.origins and urlsplit(origin).netloc != hosts[0].decode("latin-1"):
                return tr("requests from other sites are refused; allow a site with --allow-origin ORIGIN")
        return None

    def is_admin(self, key: Key) -> bool:
        """Whether a key may change what this server does: fine-tune, load models. Without keys everybody may."""
        return not self.keys_required or key.is_admin

    def sees_runs(self, key: Key) -> bool:
        """Whether a key may open the pages of the runs, which show what all users of this machine train."""
        return self.show_runs or self.is_admin(key)

    def _is_known_host(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname
        except ValueError:
            return False
        return "*" in self.hosts or name in self.hosts

    def authenticate(self, headers: list[tuple[bytes, bytes]]) -> Key | None:
        """The key of a request; `ANONYMOUS` if no key is needed; None if the request must be refused."""
        secrets = _secrets(headers)
        if self.store is None or (not secrets and not self.keys_required):
            return None if self.keys_required else ANONYMOUS
        key = self.store.find_key(secrets[0]) if len(secrets) == 1 else None
        return key if self.keys_required or key else ANONYMOUS

    def key_problem(self, headers: list[tuple[bytes, bytes]]) -> str:
        """Why `authenticate` refused a request."""
        secrets = _secrets(headers)
        if len(secrets) > 1:
            return tr("the request has several API keys; send only one")
        if not secrets:
            return tr("this server needs an API key; send the header Authorization: Bearer KEY")
        if not secrets[0]:
            return tr("the Authorization header has no key; send Authorization: Bearer KEY")
        return tr("this API key is wrong or was revoked; `qianwen keys list` on the server shows the keys in use")


def _secrets(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """The keys that a request sends, in its Authorization headers or else in its cookies."""
    values = [value for name, value in headers if name == b"authorization"]
    return [_secret(value) if len(value) <= MAX_HEADER else "" for value in values] or _cookies(headers)


def _cookies(headers: list[tuple[bytes, bytes]]) -> list[str]:
    """The keys in the cookies; more than one is refused."""
    pairs = [
        pair.strip() for name, value in headers if name == b"cookie" for pair in value.decode("latin-1").split(";")
    ]
    keys = [pair.removeprefix(f"{COOKIE}=") for pair in pairs if pair.startswith(f"{COOKIE}=")]
    return [key if len(key) <= MAX_HEADER else "" for key in keys]


def _secret(header: bytes) -> str:
    """The key in an Authorization header; an empty string, which is never a key, if there is none."""
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
    """ASGI middleware that applies `AccessRules` and writes one log line per request."""

    def __init__(self, app: Callable, *, access: AccessRules, metrics: Metrics) -> None:
        self.app, self.access, self.metrics = app, access, metrics

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
            (v for n, v in scope["headers"] if n == b"origin" and v.decode("latin-1") in self.access.origins), None
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
            await self._check_and_forward(scope, receive, respond, preflight=origin is not None)
        except Exception as error:  # a 500 was already sent if possible; uvicorn would print the error's text
            log_fault(error, request_id)
        finally:
            self._log_request(scope, status, time.monotonic() - started)

    async def _check_and_forward(self, scope: Scope, receive: Receive, send: Send, *, preflight: bool) -> None:
        if reason := self.access.refusal(scope["headers"]):
            await _send_response(send, 403, error_body(reason, kind="permission_error", code="forbidden"))
        elif preflight and scope["method"] == "OPTIONS":
            allowed = [(b"access-control-allow-headers", b"authorization, content-type")]
            await _send_response(send, 204, None, [*allowed, (b"access-control-allow-methods", b"GET, POST")])
        else:
            is_open = scope["path"] in (*OPEN_PATHS, self.access.login)
            scope["key"] = ANONYMOUS if is_open else self.access.authenticate(scope["headers"])
            if scope["key"] is None and self.access.login and _accepts_html(scope):
                await _send_response(send, 303, None, [(b"location", self.access.login.encode())])
            elif scope["key"] is None:
                body = error_body(
                    self.access.key_problem(scope["headers"]), kind="authentication_error", code="invalid_api_key"
                )
                scheme = (
                    b"Bearer" if self.access.login else b"Basic"
                )  # Basic makes a browser open its own password dialog
                await _send_response(send, 401, body, [(b"www-authenticate", scheme + b' realm="qianwen"')])
            else:
                await self.app(scope, receive, send)

    def _log_request(self, scope: Scope, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        self.metrics.count("http_requests_total", route=route, status=str(status))
        self.metrics.observe("http_request_seconds", seconds)
        entry = {
            "id": scope["request_id"], "method": scope["method"], "route": route, "status": status,
            "ms": round(seconds * 1e3, 1), "key": getattr(scope.get("key"), "name", None),
        }  # fmt: skip
        log.info(json.dumps(entry, ensure_ascii=True))


def _accepts_html(scope: Scope) -> bool:
    accepted = [value for name, value in scope["headers"] if name == b"accept"]
    return scope["method"] == "GET" and any(b"text/html" in value for value in accepted)


async def _send_response(
    send: Send, status: int, body: dict | None, headers: list[tuple[bytes, bytes]] | None = None
) -> None:
    data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
    fields = [(b"content-type", b"application/json"), (b"content-length", str(len(data)).encode()), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": data})
