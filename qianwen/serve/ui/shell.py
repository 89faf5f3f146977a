"""What surrounds Gradio: the few of its routes that pages need, the document they start from, and what it may load.

Gradio also brings a file server, a proxy, uploads and a code editor; whatever is not in `OPEN` is a 404 here. Its
document is sent without foreign addresses and under a content security policy: scripts from this server alone plus, by
their hashes, the few that the document holds, none of which contains what a user or a model wrote; no evaluation of
strings; no other host for anything. Styles may be inline, because Gradio's components write them so.
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
from qianwen.serve.gate import ANONYMOUS, Door, Receive, Scope, Send
from qianwen.serve.protocol import error_body
from qianwen.serve.service import Service
from qianwen.serve.ui.chat import chat_page
from qianwen.serve.ui.conversation import Desk, owner_of
from qianwen.serve.ui.login import login_routes
from qianwen.serve.ui.runs import run_routes, runs_page

DOCUMENTS = ("/", "/runs")
OPEN = {
    "GET": re.compile(
        r"/(assets/.*|static/.*|svelte/.*|theme\.css|gradio_api/(queue/data|startup-events|app_id|heartbeat/[a-z0-9]{1,32}))"
    ),
    "POST": re.compile(r"/gradio_api/(queue/join|run/predict|cancel)"),
}
HEARTBEAT = "/gradio_api/heartbeat/"
STREAM, QUESTION = "/gradio_api/queue/data", "/gradio_api/queue/join"
LAST_WORD = b'"close_stream"'
SETTLE_SECONDS = 0.1  # for a page to take note that its stream has ended, and for us that a page closed it
TURNS = 20  # of the event loop, for a last word that was said to come out of Gradio
MAX_PAGES = 100_000  # whose visitors are remembered
OWN = {"pages.css": "text/css", "pages.js": "text/javascript", "icon.svg": "image/svg+xml"}
POLICY = (
    "default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "font-src 'self' data:; connect-src 'self'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)


def mount_pages(app: FastAPI, service: Service, door: Door, *, with_runs: bool) -> None:
    """Add the chat page at `/`, the runs page at `/runs` and the login to the application, after all its routes."""
    desk = Desk(service)
    app.include_router(login_routes(service, door))
    if with_runs:
        app.include_router(run_routes())
    for name, media_type in OWN.items():
        app.add_api_route(f"/pages/{name}", _file_route(name, media_type), include_in_schema=False)
    asyncio.run(_mount(app, desk, door, with_runs=with_runs))  # without a running loop Gradio makes one and leaves it
    mount = app.router.routes[-1]
    mount.app = Shell(mount.app, service, desk, DOCUMENTS if with_runs else DOCUMENTS[:1])  # type: ignore[attr-defined]


async def _mount(app: FastAPI, desk: Desk, door: Door, *, with_runs: bool) -> None:
    with gr.Blocks(title="qianwen", analytics_enabled=False, fill_height=True) as pages:
        chat_page(pages, desk, with_login=door.keys_required, with_runs=with_runs)
    if with_runs:
        with pages.route(tr("Runs"), "/runs"):
            runs_page(pages)
    pages.queue(api_open=False)  # what waits in the queue cannot be called around it
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Gradio's own use of what its dependencies are about to drop
        gr.mount_gradio_app(
            app, pages, path="/", ssr_mode=False, footer_links=[], run_history=False, pwa=False, mcp_server=False,
            enable_monitoring=False, show_error=False, theme=_theme(),
        )  # fmt: skip


def _theme() -> gr.themes.Base:
    """Fonts of the reader's system; the colours are in pages.css."""
    sans = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC"]
    mono = ["ui-monospace", "SFMono-Regular", "Menlo", "Consolas", "DejaVu Sans Mono", "monospace"]
    return gr.themes.Base(font=[*sans, "sans-serif"], font_mono=mono, radius_size="lg")


def _file_route(name: str, media_type: str) -> Callable[[], Response]:
    content = resources.files("qianwen.serve.ui").joinpath(name).read_bytes()
    return lambda: Response(content, media_type=media_type, headers={"cache-control": "no-cache"})


class Shell:
    """ASGI application between the door and Gradio."""

    def __init__(self, app: Callable, service: Service, desk: Desk, documents: tuple[str, ...]) -> None:
        self.app, self.service, self.desk, self.documents = app, service, desk, documents
        self.visitors: dict[str, str] = {}  # who opened a page, by the name that its browser gave it
        self.ended: dict[str, float] = {}  # when the stream of a page said its last word
        self.streams: dict[str, asyncio.Event] = {}  # of pages; set once there is nothing left of a stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path, method = scope["path"], scope["method"]
        if path in self.documents and method in ("GET", "HEAD"):
            await (await self._document(scope, receive))(scope, receive, send)
        elif method in OPEN and OPEN[method].fullmatch(path):
            await self._pass(scope, receive, send)
        else:
            await JSONResponse(error_body("Not Found"), 404)(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        request, body = Request(scope, receive), b""
        if scope["method"] == "POST":
            try:
                body = await read_body(request, self.service.admission.limits)
            except RequestError as error:
                await JSONResponse(error_body(str(error), code=error.code), error.status)(scope, receive, send)
                return
            receive = _once(body, receive)
        key, page = scope.get("key") or ANONYMOUS, _page(request, body)
        if page and not self._is_theirs(page, owner_of(key)):
            await JSONResponse(error_body("Not Found"), 404)(scope, receive, send)
            return
        try:
            if scope["path"] == STREAM:
                await self._follow(scope, receive, send, page)
            elif scope["path"] == QUESTION:
                await self._take_question(scope, receive, send, page)
            else:
                await self.app(scope, receive, send)
        finally:
            if scope["path"].startswith(HEARTBEAT):  # the page is closed: nobody waits for its answer
                self.desk.stop(key, page)
                self.visitors.pop(page, None)
                self.ended.pop(page, None)

    # A page has one stream for all that it waits for. It ends with the last answer, or the page closes it to leave an
    # answer, and the next question opens another. Two things go wrong when that question is too close to the end:
    # if the answer to it overtakes the stream's last word, the page opens no other and waits for ever; and when Gradio
    # sees a stream closed, it forgets whatever the page has asked for, even what was asked after.

    async def _follow(self, scope: Scope, receive: Receive, send: Send, page: str) -> None:
        """A page's stream, whose close Gradio learns of only if it came before the last word."""
        await self._settled(page)
        gone = self.streams[page] = asyncio.Event()
        is_over = False

        async def note_the_end(message: MutableMapping[str, Any]) -> None:
            nonlocal is_over
            if LAST_WORD in message.get("body", b""):
                is_over, self.ended[page] = True, time.monotonic()
            await send(message)

        async def unless_over() -> MutableMapping[str, Any]:
            message = await receive()
            return await asyncio.Future() if is_over else message

        try:
            await self.app(scope, unless_over, note_the_end)
        finally:
            gone.set()
            if self.streams.get(page) is gone:
                del self.streams[page]

    async def _take_question(self, scope: Scope, receive: Receive, send: Send, page: str) -> None:
        """A question, behind the end of the stream before it; its answer, behind that stream's last word."""

        async def wait_for_the_end(message: MutableMapping[str, Any]) -> None:
            for _ in range(TURNS):
                await asyncio.sleep(0)
            await asyncio.sleep(self.ended.get(page, 0.0) + SETTLE_SECONDS - time.monotonic())
            await send(message)

        await self._settled(page)
        await self.app(scope, receive, wait_for_the_end)

    async def _settled(self, page: str) -> None:
        """Wait for what is left of a page's stream, as long as the page may take to close it."""
        if page in self.streams:
            with suppress(TimeoutError):
                await asyncio.wait_for(self.streams[page].wait(), SETTLE_SECONDS)

    def _is_theirs(self, page: str, owner: str) -> bool:
        """Whether an open page belongs to a visitor: whoever names it first. Gradio itself asks for its name alone."""
        if len(self.visitors) >= MAX_PAGES:
            oldest = next(iter(self.visitors))
            del self.visitors[oldest]
            self.ended.pop(oldest, None)
        return self.visitors.setdefault(page, owner) == owner

    async def _document(self, scope: Scope, receive: Receive) -> Response:
        """Gradio's document, ours from here on. A client's query and encodings are not its concern."""
        parts: list[bytes] = []

        async def keep(message: dict) -> None:
            parts.append(message.get("body", b""))

        headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        inner = {**scope, "method": "GET", "query_string": b"", "headers": headers}
        await self.app(inner, receive, keep)
        return _dressed(b"".join(parts).decode(), owner_of(scope.get("key") or ANONYMOUS))


def _page(request: Request, body: bytes) -> str:
    """The name of the open page (Gradio's session) that a request is about; empty where it is about none."""
    path = request.scope["path"]
    if path.startswith(HEARTBEAT):
        return path.removeprefix(HEARTBEAT)
    said = request.query_params.get("session_hash")
    with suppress(ValueError, RecursionError, AttributeError):  # what is no JSON object Gradio refuses
        said = json.loads(body).get("session_hash") if body else said
    return str(said or "")


def _once(body: bytes, receive: Receive) -> Receive:
    """`receive` after the body was read: the body once more, then whatever comes."""
    waiting: list[MutableMapping[str, Any]] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return again


def _dressed(document: str, visitor: str) -> Response:
    """The document without foreign addresses, in our language and style, and its policy."""
    spoken = {
        "Copy message": tr("Copy message"), "bot's message: ": tr("bot's message: "), "Close": tr("Close"),
        "user's message: ": tr("user's message: "), "chatbot conversation": tr("chatbot conversation"),
        "number input for ": tr("number input for "), "range slider for ": tr("range slider for "),
    }  # fmt: skip
    lost = tr("The server does not answer. The page comes back as soon as it does.")
    notices = {
        "Warning": tr("Not answered"), "Error": tr("Something went wrong"), "Info": tr("Note"),
        "Connection to the server was lost. Attempting reconnection...": lost,
    }  # fmt: skip
    words = {
        "conversations": tr("Conversations"), "settings": tr("Settings"), "send": tr("Send"), "stop": tr("Stop"),
        "spoken": spoken, "notices": notices, "visitor": visitor,
    }  # fmt: skip
    attributes = f'lang="{"zh-Hans" if language() == "zh" else "en"}" data-words="{html.escape(json.dumps(words))}"'
    document = re.sub(r'<meta\s+(?:property|name)="(?:og|twitter):[^>]*>|<link rel="manifest"[^>]*>', "", document)
    document = re.sub(r'<html\s+lang="en"', lambda _: f"<html {attributes}", document, count=1)
    own = (
        '<title>qianwen</title><link rel="icon" href="/pages/icon.svg"><link rel="stylesheet" href="/pages/pages.css">'
        '<script src="/pages/pages.js"></script>'
    )
    document = document.replace("<script", own + "<script", 1)
    scripts = re.findall(r"<script(?![^>]*\ssrc=)[^>]*>(.*?)</script>", document, re.DOTALL)
    hashes = (base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts)
    policy = POLICY.format(scripts=" ".join(f"'sha256-{digest}'" for digest in hashes))
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "cache-control": "no-store"}
    return HTMLResponse(document, headers=headers)
