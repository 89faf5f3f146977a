"""The wrapper around Gradio: allowed routes, no addresses of other hosts, security policy, access control."""

import asyncio
import contextlib
import re
import time

import pytest

pytest.importorskip("gradio", reason="the pages need the [ui] extra")

from qianwen.serve.admission import Admission, Limits  # noqa: E402
from qianwen.serve.gate import COOKIE, AccessRules  # noqa: E402
from qianwen.serve.service import Service  # noqa: E402
from qianwen.serve.store import Store  # noqa: E402
from qianwen.serve.ui.conversation import ChatBackend  # noqa: E402
from qianwen.serve.ui.shell import QUESTION, SETTLE_SECONDS, STREAM, Shell  # noqa: E402

PAGE = {"accept": "text/html"}


@pytest.fixture(scope="module")
def open_server(start, tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("open") / "s.sqlite")
    limits = Limits(max_body_bytes=100_000)
    with start(store=store, limits=limits, pages={}) as server:
        yield server


@pytest.fixture(scope="module")
def locked(start, tmp_path_factory):
    """A server that asks for a key, and a key."""
    store = Store(tmp_path_factory.mktemp("locked") / "s.sqlite")
    secret = store.add_key("ann")
    access = AccessRules(keys_required=True, store=store)
    with start(store=store, access=access, pages={}) as server:
        yield server, secret


def test_the_documents_are_rewritten(open_server):
    with open_server.client(headers=PAGE) as client:
        for path in ("/", "/runs"):
            response = client.get(path)
            assert response.status_code == 200
            policy = response.headers["content-security-policy"]
            scripts = re.search(r"script-src ([^;]*)", policy)
            assert scripts and "unsafe" not in scripts[1] and "http" not in policy and "*" not in policy
            assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
            assert not re.findall(r'(?:src|href|content)="(?:https?:)?//[^"]*', response.text)
            assert len(re.findall("'sha256-", scripts[1])) == len(re.findall(r"<script(?![^>]* src=)", response.text))
        assert client.get("/?x=<script>hit()</script>").text.count("hit()") == 0


def test_the_api_works_and_other_gradio_routes_are_404(open_server):
    with open_server.client() as client:
        assert client.get("/v1/models").json()["data"][0]["id"] == "tiny"
        assert client.get("/health").status_code == 200
        assert client.get("/assets/../../../../etc/passwd").status_code == 404
        for path in (
            "/gradio_api/file=/etc/passwd", "/gradio_api/proxy=http://127.0.0.1/", "/gradio_api/info", "/config",
            "/gradio_api/runs", "/gradio_api/openapi.json", "/monitoring", "/gradio_api/vibe-code", "/gradio_api/token",
            "/gradio_api/upload_progress?upload_id=a", "/docs", "/manifest.json", "/nowhere",
        ):  # fmt: skip
            response = client.get(path)
            assert response.status_code == 404 and response.json()["error"]["message"], path
        for path in ("upload", "component_server", "vibe-edit", "run/ask", "call/ask", "api/ask", "process_recording"):
            assert client.post(f"/gradio_api/{path}", json={"data": []}).status_code == 404, path
        assert client.get("/pages/pages.js").headers["content-type"].startswith("text/javascript")


def test_a_body_too_large_and_pages_of_other_sites_are_refused(open_server):
    with open_server.client() as client:
        assert client.post("/gradio_api/queue/join", content=b"x" * 200_000).status_code == 413
        headers = {"origin": "http://evil.example"}
        assert client.post("/gradio_api/queue/join", json={}, headers=headers).status_code == 403
        assert client.get("/", headers={"host": "evil.example"}).status_code == 403


def test_no_run_is_served_by_path(open_server):
    with open_server.client() as client:
        for name in ("../..", "/etc", "none"):
            assert client.get("/runs/report", params={"run": name}).status_code == 404


def test_without_a_key_every_page_is_refused(locked):
    server, _ = locked
    with server.client() as client:
        for path in (
            "/",
            "/runs",
            "/config",
            "/assets/x.js",
            "/pages/pages.js",
            "/v1/models",
            "/gradio_api/queue/data",
        ):
            response = client.get(path)
            assert response.status_code == 401 and response.headers["www-authenticate"].startswith("Bearer"), path
            response = client.get(path, headers=PAGE)
            assert (response.status_code, response.headers["location"]) == (303, "/login")
        assert client.post("/gradio_api/queue/join", json={}, headers=PAGE).status_code == 401


def test_a_key_opens_the_pages_until_it_is_revoked(locked):
    server, secret = locked
    with server.client(headers=PAGE) as client:
        login_page = client.get("/login")
        assert login_page.status_code == 200 and "<script" not in login_page.text
        assert "script" not in login_page.headers["content-security-policy"]
        wrong = client.post("/login", data={"key": "<b>wrong"})
        assert wrong.status_code == 401 and "<b>" not in wrong.text and "set-cookie" not in wrong.headers
        entered = client.post("/login", data={"key": f" {secret} "})
        cookie = entered.headers["set-cookie"].lower()
        assert entered.status_code == 303 and "httponly" in cookie and "samesite=strict" in cookie
        assert client.get("/").status_code == 200
        assert client.get("/runs").status_code == 404, "runs belong to whoever runs the server"
        assert "ann" in client.get("/login").text
        assert client.get("/v1/models").status_code == 200
        assert client.post("/logout").status_code == 303
        assert client.get("/").status_code == 303

        client.cookies.set(COOKIE, secret)
        assert client.get("/").status_code == 200
        server.service.store.revoke_key("ann")
        assert client.get("/").status_code == 303


def test_closing_a_page_stops_its_answer(open_server):
    with open_server.client() as client:
        stopped = []
        route = next(route for route in _mounts(open_server) if hasattr(route, "backend"))
        original, route.backend.stop = route.backend.stop, lambda key, page: stopped.append(page)
        try:
            with client.stream("GET", "/gradio_api/heartbeat/abc123") as response:
                next(response.iter_lines())
            deadline = time.monotonic() + 10
            while not stopped and time.monotonic() < deadline:
                time.sleep(0.02)
        finally:
            route.backend.stop = original
        assert stopped == ["abc123"]


def _mounts(server):
    return [getattr(route, "app", None) for route in server.app.app.router.routes]


def test_the_end_of_a_stream_is_sent_before_the_response_to_the_next_question():
    """Else the page would use the ended stream as if it were open, and wait for ever."""
    sent: dict[str, float] = {}

    async def gradio(scope, receive, send):
        is_stream = scope["path"] == "/gradio_api/queue/data"
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b'data: {"msg":"close_stream"}' if is_stream else b"{}"})

    async def exchange(shell: Shell, method: str, path: str, body: bytes = b"") -> None:
        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message):
            sent.setdefault(path, time.monotonic())

        scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"session_hash=ab"}
        await shell(scope, receive, send)

    async def both():
        service = Service([], Admission(Limits()), Store(":memory:"))
        shell = Shell(gradio, service, ChatBackend(service), AccessRules())
        await exchange(shell, "GET", "/gradio_api/queue/data")
        await exchange(shell, "POST", "/gradio_api/queue/join", b'{"session_hash": "ab"}')

    asyncio.run(both())
    assert sent["/gradio_api/queue/join"] - sent["/gradio_api/queue/data"] >= SETTLE_SECONDS


@pytest.mark.parametrize("word", ["close_stream", "process_generating"])
def test_gradio_does_not_see_a_close_after_the_end_of_a_stream(word):
    """Else Gradio would drop newer questions of the page."""
    heard = []

    async def gradio(scope, receive, send):
        await send({"type": "http.response.body", "body": f'data: {{"msg":"{word}"}}'.encode()})
        with contextlib.suppress(TimeoutError):
            heard.append((await asyncio.wait_for(receive(), 0.05))["type"])

    async def close():
        return {"type": "http.disconnect"}

    async def send(message):
        pass

    service = Service([], Admission(Limits()), Store(":memory:"))
    shell = Shell(gradio, service, ChatBackend(service), AccessRules())
    scope = {"type": "http", "method": "GET", "path": STREAM, "headers": [], "query_string": b"session_hash=ab"}
    asyncio.run(shell(scope, close, send))
    assert heard == ([] if word == "close_stream" else ["http.disconnect"]) and not shell.streams


@pytest.mark.parametrize("path", [QUESTION, STREAM])
def test_a_question_is_forwarded_after_the_last_stream_has_finished(path):
    order = []

    async def gradio(scope, receive, send):
        order.append(scope["path"])
        if len(order) == 1:
            await receive()  # the page closes it
            await asyncio.sleep(0.02)  # Gradio drops the pending questions of the page
            order.append("forgotten")

    async def scene():
        closed = asyncio.Event()
        service = Service([], Admission(Limits()), Store(":memory:"))
        shell = Shell(gradio, service, ChatBackend(service), AccessRules())

        async def receive():
            await closed.wait()
            return {"type": "http.request", "body": b'{"session_hash": "ab"}', "more_body": False}

        async def send(message):
            pass

        def exchange(method, path):
            scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"session_hash=ab"}
            return asyncio.create_task(shell(scope, receive, send))

        left = exchange("GET", STREAM)
        await asyncio.sleep(0)
        closed.set()
        await asyncio.gather(left, exchange("POST" if path == QUESTION else "GET", path))

    asyncio.run(scene())
    assert order == [STREAM, "forgotten", path]
