"""The application: routes, errors in OpenAI's form, the door in front, and a stop that finishes what it began.

/v1/…  /tokenize     `chat_routes.py`
/v1/models           every model by name
/health              200 while the engines live, 503 once one has failed; open to all
/ready               200 while new requests are taken, 503 while draining
/metrics             Prometheus
/ /runs /login       the pages, if wanted: `ui/`
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from qianwen import __version__
from qianwen.runtime.errors import QianwenError, RequestError
from qianwen.serve.chat_routes import chat_routes
from qianwen.serve.exchange import ClientGone
from qianwen.serve.gate import Door, Gate
from qianwen.serve.openapi import describe
from qianwen.serve.protocol import BODIES, error_body
from qianwen.serve.service import Service

HEADER_SECONDS = 20.0  # for a client to send the head of its request
LAST_SECONDS = 1.0  # after a drain, for last bytes and what was never admitted; an open page listens for ever
MAX_CONNECTIONS = 2048  # open at once, idle ones too; beyond, a request is told 503


def create_app(service: Service, door: Door, *, with_pages: bool = False, with_runs: bool = False) -> Gate:
    """The ASGI application, with the door in front. Pages need the `[ui]` extra; the runs page is one of them."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="qianwen", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(chat_routes(service))
    _add_state_routes(app, service)
    app.openapi = lambda: describe(app, BODIES, list(service.models))  # type: ignore[method-assign]
    for kind, answer in ((RequestError, _refused), (QianwenError, _refused), (HTTPException, _no_such_thing)):
        app.add_exception_handler(kind, answer)
    app.add_exception_handler(ClientGone, _nobody_left)
    app.add_exception_handler(Exception, _our_fault)
    if with_pages:
        from qianwen.serve.ui.login import LOGIN
        from qianwen.serve.ui.shell import mount_pages  # loads Gradio

        door = replace(door, login=LOGIN)
        mount_pages(app, service, door, with_runs=with_runs)
    return Gate(app, door=door, metrics=service.metrics)


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


async def _refused(_: Request, error: Exception) -> Response:
    status = getattr(error, "status", 400)
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    body = error_body(str(error), kind=kind, param=getattr(error, "param", None), code=getattr(error, "code", None))
    wait = getattr(error, "retry_after", None)
    return JSONResponse(body, status, headers={} if wait is None else {"retry-after": str(int(wait))})


async def _no_such_thing(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse(error_body(str(error.detail)), error.status_code, headers=error.headers)


async def _nobody_left(_: Request, __: Exception) -> Response:
    return Response(status_code=499)  # nobody reads it, the log does


async def _our_fault(http: Request, error: Exception) -> Response:
    """Something we did not foresee; the gate puts it in the log."""
    message = f"internal error; the log knows it as {http.scope.get('request_id')}"
    return JSONResponse(error_body(message, kind="server_error"), 500)


class PatientProtocol(H11Protocol):
    """HTTP/1.1 that hangs up on a client who does not finish the head of a request in time.

    The time runs from the connection, and again from the first byte of each further request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(HEADER_SECONDS, transport.abort)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        is_head = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if not is_head:
            self._head_timer.cancel()
        elif self._head_timer.cancelled():
            self._head_timer = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_timer.cancel()
        super().connection_lost(exc)


class Server(uvicorn.Server):
    """Uvicorn that drains on SIGTERM and Ctrl-C before it closes connections; a second signal does not wait."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self.service = service

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Uvicorn's own handler would raise the signal again afterwards; a drained server ends as it should, with 0."""
        if self.should_exit or self.service.admission.draining:
            self.should_exit = self.force_exit = True
        else:
            self.service.admission.draining = True
            self._draining = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        if not await self.service.drain():
            self.config.timeout_graceful_shutdown = 0  # they had their time
        self.should_exit = True


def serve(app: Callable, service: Service, host: str, port: int, sockets: list[socket.socket] | None = None) -> None:
    """Run until a signal. Returns when everything has stopped."""
    _allow_connections()
    gc.freeze()  # what is loaded stays: no collection walks it, not even the last, which else takes most of a second
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=PatientProtocol,
        ws="none",
        access_log=False,
        log_level="warning",
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=LAST_SECONDS,  # type: ignore[arg-type]  # said to be whole, only ever waited for
    )
    Server(config, service).run(sockets)


def _allow_connections() -> None:
    """Raise the number of open files to what the connections need, as far as the system lets us."""
    try:
        import resource
    except ImportError:  # no such limit on Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * MAX_CONNECTIONS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
