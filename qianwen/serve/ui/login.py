"""A key typed once: the page that asks for it, and the cookie that keeps it.

The cookie holds the key itself, so revoking the key ends every session at once. Scripts cannot read it (HttpOnly),
other sites cannot send it (SameSite=Strict, and the door's Origin check), and behind TLS it never travels without
(Secure).
The page is a form without a script.
"""

from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from importlib import resources
from urllib.parse import parse_qs

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from qianwen.runtime.translation import language, tr
from qianwen.serve.exchange import read_body
from qianwen.serve.gate import COOKIE, Door
from qianwen.serve.service import Service

LOGIN = "/login"
MAX_FORM = 4096  # bytes
DAYS = 30


def login_routes(service: Service, door: Door) -> APIRouter:
    """`/login` and `/logout`."""
    router = APIRouter()
    limits = replace(service.admission.limits, max_body_bytes=MAX_FORM)

    @router.get(LOGIN, include_in_schema=False)
    async def ask(http: Request) -> Response:
        if not door.keys_required:
            return RedirectResponse("/", 303)
        key = door.visitor(http.scope["headers"])
        return _page(name=key.name if key else None)

    @router.post(LOGIN, include_in_schema=False)
    async def enter(http: Request) -> Response:
        form = parse_qs((await read_body(http, limits)).decode("latin-1"), max_num_fields=8)
        secret = form.get("key", [""])[0].strip()
        if door.store is None or door.store.find_key(secret) is None:
            return _page(is_wrong=True)
        response = RedirectResponse("/", 303)
        is_secure = http.url.scheme == "https"
        response.set_cookie(COOKIE, secret, max_age=DAYS * 86400, httponly=True, samesite="strict", secure=is_secure)
        return response

    @router.post("/logout", include_in_schema=False)
    async def leave() -> Response:
        response = RedirectResponse(LOGIN, 303)
        response.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return response

    return router


def _page(*, name: str | None = None, is_wrong: bool = False) -> HTMLResponse:
    style = "".join(_file(*place) for place in (("qianwen.runtime", "page.css"), ("qianwen.serve.ui", "login.css")))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    if name is None:
        problem = (
            f'<p class="wrong" id="wrong" role="alert">{_safe(tr("No key in use is this one."))}</p>'
            if is_wrong
            else ""
        )
        said = _safe(tr("Whoever runs this server makes one with `qianwen keys add NAME`."))
        hint = re.sub("`([^`]*)`", r"<code>\1</code>", said)
        described = ' aria-describedby="wrong" aria-invalid="true"' if is_wrong else ""
        body = f"""<form method="post" action="{LOGIN}">
<label for="key">{_safe(tr("API key"))}</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus{described}>
{problem}
<button>{_safe(tr("Enter"))}</button>
</form>
<p class="hint">{hint}</p>"""
    else:
        body = f"""<p>{_safe(tr("You are here as {name}.", name=name))} <a href="/">{_safe(tr("To the chat"))}</a></p>
<form method="post" action="/logout"><button>{_safe(tr("Leave"))}</button></form>"""
    page = f"""<!doctype html>
<html lang="{"zh-Hans" if language() == "zh" else "en"}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(tr("Enter"))} · qianwen</title><style>{style}</style></head>
<body class="login"><main><h1>qianwen</h1>{body}</main></body>
</html>
"""
    # a form sent without any referrer says "Origin: null", and the door would take it for another site's
    headers = {"content-security-policy": policy, "referrer-policy": "same-origin", "cache-control": "no-store"}
    return HTMLResponse(page, 401 if is_wrong else 200, headers=headers)


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _safe(text: str) -> str:
    return html.escape(text)
