"""A wrapper around Gradio: allows only the routes that the pages need, and rewrites the HTML document.

Gradio also has a file server, a proxy, uploads and a code editor; a route that is not in `OPEN_ROUTES` is a 404. The
document is sent without addresses of other hosts and with a content security policy: scripts come from this server
only, plus the few inline scripts of the document, allowed by hash, which contain no text of users or models; strings
are not evaluated as code; no other host is used. Inline styles are allowed, because Gradio's components write them.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import json
import re
import time
import warnings
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from importlib import resources
from typing import Any

import gradio as gr
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import language, tr
from qianwen.serve.exchange import read_body
from qianwen.serve.finetunes import Finetunes
from qianwen.serve.gate import ANONYMOUS, AccessRules, Receive, Scope, Send
from qianwen.serve.protocol import error_body
from qianwen.serve.run_models import Load, RunModels
from qianwen.serve.service import Service
from qianwen.serve.ui.attachments import attachment_routes
from qianwen.serve.ui.chat import chat_page
from qianwen.serve.ui.conversation import ChatBackend, owner_of
from qianwen.serve.ui.export import export_routes
from qianwen.serve.ui.login import login_routes
from qianwen.serve.ui.runs import RUNS, RunActions, run_routes, runs_page
from qianwen.serve.ui.tune import TUNE, TunePage, tune_routes

CHAT = "/"
DOCUMENTS = (CHAT, RUNS, TUNE)
OPEN_ROUTES = {
    "GET": re.compile(
        r"/(assets/.*|static/.*|svelte/.*|theme\.css|gradio_api/(queue/data|startup-events|app_id|heartbeat/[a-z0-9]{1,32}))"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|run/predict|cancel)"),
}
HEARTBEAT = "/gradio_api/heartbeat/"
STREAM, QUESTION = "/gradio_api/queue/data", "/gradio_api/queue/join"
CLOSE_STREAM = b'"close_stream"'
SETTLE_SECONDS = 0.1  # for a page to see that its stream has ended, and for the server to see that a page closed it
LOOP_TURNS = 20  # of the event loop, in which the end of a stream that Gradio has written is sent
MAX_PAGES = 100_000  # open pages whose owners are stored
OWN_FILES = {"pages.css": "text/css", "pages.js": "text/javascript", "icon.svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def mount_pages(app: FastAPI, service: Service, access: AccessRules, *, load: Load | None = None) -> None:
    """Add the chat page at `/`, the runs pages at `/runs` and `/tune`, and the login page. Call it last."""
    backend = ChatBackend(service)
    actions = RunActions(access, Finetunes(service), RunModels(service, load) if load else None)
    app.include_router(login_routes(service, access))
    app.include_router(attachment_routes(service))
    app.include_router(export_routes(service))
    app.include_router(run_routes(access))
    app.include_router(tune_routes(service, access, actions.finetunes))
    for name, media_type in OWN_FILES.items():
        app.add_api_route(f"/pages/{name}", _file_route(name, media_type), include_in_schema=False)
    # without a running event loop Gradio creates one and never closes it
    asyncio.run(_mount(app, backend, actions))
    mount = app.router.routes[-1]
    mount.app = Shell(mount.app, service, backend, access)  # type: ignore[attr-defined]


async def _mount(app: FastAPI, backend: ChatBackend, actions: RunActions) -> None:
    with gr.Blocks(title="qianwen", analytics_enabled=False, fill_height=True) as pages:
        chat_page(pages, backend, actions.access)
    with pages.route(tr("Runs"), RUNS):
        runs_page(pages, actions)
    with pages.route(tr("Fine-tune a model"), TUNE):
        TunePage(pages, actions.access, actions.finetunes)
    pages.queue(api_open=False)  # handlers that use the queue cannot be called without it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Gradio uses deprecated functions of its dependencies
        gr.mount_gradio_app(
            app, pages, path="/", ssr_mode=False, footer_links=[], run_history=False, pwa=False, mcp_server=False,
            enable_monitoring=False, show_error=False, theme=_theme(),
        )  # fmt: skip


def _theme() -> gr.themes.Base:
    """System fonts; the colours are in pages.css."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    return gr.themes.Base(font=[*sans, "sans-serif"], font_mono=mono, radius_size="lg")


def _file_route(name: str, media_type: str) -> Callable[[], Response]:
    content = resources.files("qianwen.serve.ui").joinpath(name).read_bytes()
    return lambda: Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


class Shell:
    """ASGI application between the gate and Gradio."""

    def __init__(self, app: Callable, service: Service, backend: ChatBackend, access: AccessRules) -> None:
        self.app, self.service, self.backend, self.access = app, service, backend, access
        self.owners: dict[str, str] = {}  # owner of each open page, by Gradio's session hash
        self.ended: dict[str, float] = {}  # time at which the stream of a page ended
        self.streams: dict[str, asyncio.Event] = {}  # by page; set when its stream is completely finished

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        is_visible = path == CHAT or self.access.sees_runs(scope.get("key") or ANONYMOUS)
        if path in DOCUMENTS and is_visible and method in ("GET", "HEAD"):
            await (await self._document(scope, receive))(scope, receive, send)
        elif method in OPEN_ROUTES and OPEN_ROUTES[method].fullmatch(path):
            await self._forward(scope, receive, send)
        else:
            await JSONResponse(error_body("Not Found"), 404)(scope, receive, send)

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, body = Request(scope, receive), b""
        if scope["method"] == "POST":
            try:
                body = await read_body(request, self.service.admission.limits)
            except RequestError as error:
                await JSONResponse(error_body(str(error), code=error.code), error.status)(scope, receive, send)
                return
            receive = _replay(body, receive)
        key, page = scope.get("key") or ANONYMOUS, _page(request, body)
        if page and not self._is_owner(page, owner_of(key)):
            await JSONResponse(error_body("Not Found"), 404)(scope, receive, send)
            return
        try:
            if scope["path"] == STREAM:
                await self._forward_stream(scope, receive, send, page)
            elif scope["path"] == QUESTION:
                await self._forward_question(scope, receive, send, page)
            else:
                await self.app(scope, receive, send)
        finally:
            if scope["path"].startswith(HEARTBEAT):  # the heartbeat ends when the page is closed
                self.backend.stop(key, page)
                self.owners.pop(page, None)
                self.ended.pop(page, None)

    # A page has one event stream for all its pending answers. The stream ends after the last answer, or when the page
    # closes it to leave an answer; the next question opens a new stream. A question very close to the end causes two
    # problems. If its response overtakes the end of the stream, the page opens no new stream and waits for ever. And
    # when Gradio sees a closed stream, it drops all pending questions of the page, even newer ones.

    async def _forward_stream(self, scope: Scope, receive: Receive, send: Send, page: str) -> None:
        """Forward a page's stream. Gradio sees its close only if the page closed it before the stream ended."""
        await self._wait_for_stream_end(page)
        finished = self.streams[page] = asyncio.Event()
        is_over = False

        async def send_and_note_end(message: MutableMapping[str, Any]) -> None:
            nonlocal is_over
            if CLOSE_STREAM in message.get("body", b""):
                is_over, self.ended[page] = True, time.monotonic()
            await send(message)

        async def receive_until_over() -> MutableMapping[str, Any]:
            message = await receive()
            return await asyncio.Future() if is_over else message

        try:
            await self.app(scope, receive_until_over, send_and_note_end)
        finally:
            finished.set()
            if self.streams.get(page) is finished:
                del self.streams[page]

    async def _forward_question(self, scope: Scope, receive: Receive, send: Send, page: str) -> None:
        """Forward a question after the page's last stream has finished, and its response after that stream's end."""

        async def send_after_end(message: MutableMapping[str, Any]) -> None:
            for _ in range(LOOP_TURNS):
                await asyncio.sleep(0)
            await asyncio.sleep(self.ended.get(page, 0.0) + SETTLE_SECONDS - time.monotonic())
            await send(message)

        await self._wait_for_stream_end(page)
        await self.app(scope, receive, send_after_end)

    async def _wait_for_stream_end(self, page: str) -> None:
        """Wait until the page's stream is finished, at most SETTLE_SECONDS."""
        if page in self.streams:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.streams[page].wait(), SETTLE_SECONDS)

    def _is_owner(self, page: str, owner: str) -> bool:
        """Whether an open page belongs to `owner`: the owner of its first request. Gradio checks only the name."""
        if len(self.owners) >= MAX_PAGES:
            oldest = next(iter(self.owners))
            del self.owners[oldest]
            self.ended.pop(oldest, None)
        return self.owners.setdefault(page, owner) == owner

    async def _document(self, scope: Scope, receive: Receive) -> Response:
        """Gradio's HTML document, rewritten. The client's query and accepted encodings are not passed on."""
        parts: list[bytes] = []

        async def keep(message: dict) -> None:
            parts.append(message.get("body", b""))

        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        inner = {**scope, "method": "GET", "query_string": b"", "headers": headers}
        await self.app(inner, receive, keep)
        return _rewrite(b"".join(parts).decode(), owner_of(scope.get("key") or ANONYMOUS))


def _page(request: Request, body: bytes) -> str:
    """The session hash of the open page that a request belongs to; empty if it belongs to none."""
    path = request.scope["path"]
    if path.startswith(HEARTBEAT):
        return path.removeprefix(HEARTBEAT)
    session_hash = request.query_params.get("session_hash")
    with suppress(ValueError, RecursionError, AttributeError):  # Gradio itself refuses a body that is not an object
        session_hash = json.loads(body).get("session_hash") if body else session_hash
    return str(session_hash or "")


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that first returns the body, which was already read, and then calls the original."""
    pending: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replayed() -> MutableMapping[str, Any]:
        return pending.pop() if pending else await receive()

    return replayed


def _rewrite(document: str, owner: str) -> Response:
    """The document without addresses of other hosts, with our language and style, and with its security policy."""
    labels = {
        "Copy message": tr("Copy message"), "bot's message: ": tr("bot's message: "), "Close": tr("Close"),
        "user's message: ": tr("user's message: "), "chatbot conversation": tr("chatbot conversation"),
        "number input for ": tr("number input for "), "range slider for ": tr("range slider for "),
    }  # fmt: skip
    lost = tr("The server does not respond. The page reconnects when the server is back.")
    notices = {
        "Warning": tr("No answer"), "Error": tr("Internal error"), "Info": tr("Note"),
        "Connection to the server was lost. Attempting reconnection...": lost,
    }  # fmt: skip
    words = {
        "conversations": tr("Conversations"), "settings": tr("Settings"), "send": tr("Send"), "stop": tr("Stop"),
        "labels": labels, "notices": notices, "owner": owner, "remove": tr("Remove"),
    }  # fmt: skip
    attributes = f'lang="{"zh-Hans" if language() == "zh" else "en"}" data-words="{html.escape(json.dumps(words))}"'
    document = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>', "", document)
    document = re.sub(r'<html\s+lang="en"', lambda _: f"<html {attributes}", document, count=1)
    own_files = (
        '<title>qianwen</title><link rel="icon" href="/pages/icon.svg"><link rel="stylesheet" href="/pages/pages.css">'
        '<script src="/pages/pages.js"></script>'
    )
    document = document.replace("<script", own_files + "<script", 1)
    scripts = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", document, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    policy = POLICY.format(scripts=" ".join(f"'sha256-{digest}'" for digest in hashes))
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "cache-control": "no-store"}
    return HTMLResponse(document, headers=headers)
