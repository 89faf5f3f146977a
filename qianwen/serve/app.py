"""The ASGI application: routes, errors in OpenAI's format, access control, and a shutdown that drains requests.

/v1/…  /tokenize     `chat_routes.py`, `response_routes.py`
/v1/models           the models and their names
/health              200 while all engines run, 503 after one has failed; needs no key
/ready               200 while the server accepts requests, 503 while it drains
/metrics             metrics in Prometheus' format
/ /runs /login       the web pages, if enabled: `ui/`
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute
from uvicorn.protocols.http.h11_impl import H11Protocol

from qianwen import __version__
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.chat_routes import chat_routes
from qianwen.serve.exchange import ClientDisconnected
from qianwen.serve.gate import AccessRules, Gate
from qianwen.serve.openapi import describe
from qianwen.serve.protocol import BODIES, error_body
from qianwen.serve.response_routes import response_routes
from qianwen.serve.responses_protocol import ResponsesRequest
from qianwen.serve.service import Served, Service

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"})
HEADER_SECONDS = 20.0  # that a client has to send the headers of its request
CLOSE_SECONDS = 1.0  # that open connections have after a drain; an open page would keep its event stream for ever
MAX_CONNECTIONS = 2048  # open at once, with idle ones; a request above this gets a 503


def create_app(
    service: Service,
    access: AccessRules,
    *,
    with_pages: bool = False,
    load: Callable[[str, str], Served] | None = None,
) -> Gate:
    """The ASGI application behind its `Gate`. The pages need the `[ui]` extra.

    `load(name, MODEL)` loads the model of a run when a user of the pages wants to talk to it.
    """

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="qianwen", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    _add_state_routes(app, service)
    routes = [*app.routes]
    for router in (chat_routes(service), response_routes(service)):
        app.include_router(router)
        routes += router.routes
    _refuse_other_methods(app, routes)
    app.openapi = lambda: describe(app, (*BODIES, ResponsesRequest), list(service.models))  # type: ignore[method-assign]
    for kind, handler in (
        (RequestError, _error_response),
        (QianwenError, _error_response),
        (HTTPException, _http_error),
    ):
        app.add_exception_handler(kind, handler)
    app.add_exception_handler(ClientDisconnected, _client_disconnected)
    app.add_exception_handler(Exception, _internal_error)
    if with_pages:
        from qianwen.serve.ui.login import LOGIN
        from qianwen.serve.ui.shell import mount_pages  # loads Gradio

        access = replace(access, login=LOGIN)
        mount_pages(app, service, access, load=load)
    return Gate(app, access=access, metrics=service.metrics)


def _add_state_routes(app: FastAPI, service: Service) -> None:
    @app.get("/health")
    async def health() -> Response:
        return JSONResponse({"status": "ok" if service.is_healthy else "failed"}, 200 if service.is_healthy else 503)

    @app.get("/ready")
    async def ready() -> Response:
        is_ready = service.is_healthy and not service.admission.draining
        return JSONResponse({"status": "ready" if is_ready else "draining"}, 200 if is_ready else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        return PlainTextResponse(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/v1/models")
    async def models() -> Response:
        cards = [served.card(service.started) for served in service.models.values()]
        return JSONResponse({"object": "list", "data": cards})

    @app.get("/v1/models/{name:path}")
    async def model(name: str) -> Response:
        return JSONResponse(service.model(name).card(service.started))


def _refuse_other_methods(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer 405 to every other method on these routes; else the pages, which are mounted at `/`, would answer 404."""
    allowed: dict[str, set[str]] = {}
    for route in routes:
        if isinstance(route, APIRoute):
            allowed.setdefault(route.path, set()).update(route.methods or ())
    for path, methods in allowed.items():
        names = ", ".join(sorted(methods))

        async def refuse(http: Request, names: str = names) -> Response:
            message = tr(
                "{path} does not support {method}; use {names}", path=http.url.path, method=http.method, names=names
            )
            return JSONResponse(error_body(message), 405, headers={"allow": names})

        app.add_route(path, refuse, methods=sorted(METHODS - methods), include_in_schema=False)


async def _error_response(_: Request, error: Exception) -> Response:
    status = getattr(error, "status", 400)
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    body = error_body(str(error), kind=kind, param=getattr(error, "param", None), code=getattr(error, "code", None))
    wait = getattr(error, "retry_after", None)
    return JSONResponse(body, status, headers={} if wait is None else {"retry-after": str(int(wait))})


async def _http_error(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(str(error.detail)), error.status_code, headers=error.headers)


async def _client_disconnected(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # for the log only: the client has disconnected


async def _internal_error(http: Request, error: Exception) -> Response:
    """An unexpected error. The gate logs its type and place; the client gets only the id to search for."""
    message = tr("internal error; search the server log for request {id}", id=http.scope.get("request_id"))
    return JSONResponse(error_body(message, kind="server_error"), 500)


class HeaderTimeoutProtocol(H11Protocol):
    """HTTP/1.1 that closes the connection of a client that does not send all headers within HEADER_SECONDS.

    The timer starts with the connection, and again with the first byte of each later request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        # h11 is idle with unparsed bytes only while the headers of a request are incomplete
        is_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not is_head:
            self._head_timer.cancel()
        elif self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Uvicorn that drains requests on SIGTERM and Ctrl-C before it stops; a second signal stops it at once."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Start the drain. Uvicorn's own handler would raise the signal again and so end with a non-zero status."""
        if self.should_exit or self.service.admission.draining:
            self.should_exit = self.force_exit = True
        else:
            self.service.admission.draining = True
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        if not await self.service.drain():
            self.config.timeout_graceful_shutdown = 0  # the limit of the drain has passed
        self.should_exit = True


def serve(app: Callable, service: Service, host: str, port: int, sockets: list[socket.socket] | None = None) -> None:
    """Run until SIGTERM or Ctrl-C. Returns when everything has stopped."""
    _allow_connections()
    gc.freeze()  # loaded objects live until the end; without this, the last collection takes most of a second
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=HeaderTimeoutProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=CLOSE_SECONDS,  # type: ignore[arg-type]  # typed as int, but only used as a timeout
    )
    Server(config, service).run(sockets)


def _allow_connections() -> None:
    """Raise the limit on open files to what MAX_CONNECTIONS need, or to the hard limit of the system if lower."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = 2 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < needed:
        limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
