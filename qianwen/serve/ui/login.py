"""The login page, where a user enters an API key, and the cookie that stores the key.

The cookie has the key itself, so revoking the key ends every session at once. Scripts cannot read it (HttpOnly). Other
sites cannot send it (SameSite=Strict, and the Origin check of `gate.py`). If the page came over https, the browser
sends it over https only (Secure). The page is a form without any script.
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
from qianwen.serve.gate import COOKIE, AccessRules
from qianwen.serve.service import Service

LOGIN = "/login"
MAX_FORM = 4096  # bytes
DAYS = 30  # until the cookie expires


def login_routes(service: Service, access: AccessRules) -> APIRouter:
    """`/login` and `/logout`."""
    router = APIRouter()
    limits = replace(service.admission.limits, max_body_bytes=MAX_FORM)

    @router.get(LOGIN, include_in_schema=False)
    async def ask(http: Request) -> Response:
        if not access.keys_required:
            return RedirectResponse("/", 303)
        key = access.authenticate(http.scope["headers"])
        return _page(name=key.name if key else None)

    @router.post(LOGIN, include_in_schema=False)
    async def enter(http: Request) -> Response:
        form = parse_qs((await read_body(http, limits)).decode("latin-1"), max_num_fields=8)
        secret = form.get("key", [""])[0].strip()
        if access.store is None or access.store.find_key(secret) is None:
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
    style = "".join(_file(*file) for file in (("qianwen.runtime", "page.css"), ("qianwen.serve.ui", "login.css")))
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    if name is None:
        problem = (
            f'<p class="wrong" id="wrong" role="alert">{_safe(tr("There is no such key, or it was revoked."))}</p>'
            if is_wrong
            else ""
        )
        text = _safe(tr("The operator of this server can create a key with `qianwen keys add NAME`."))
        hint = re.sub("`([^`]*)`", r"<code>\1</code>", text)
        described = ' aria-describedby="wrong" aria-invalid="true"' if is_wrong else ""
        body = f"""<form method="post" action="{LOGIN}">
<label for="key">{_safe(tr("API key"))}</label>
<input id="key" name="key" type="password" autocomplete="current-password" required autofocus{described}>
{problem}
<button>{_safe(tr("Log in"))}</button>
</form>
<p class="hint">{hint}</p>"""
    else:
        identity = _safe(tr("You are logged in as {name}.", name=name))
        body = f"""<p>{identity} <a href="/">{_safe(tr("Go to the chat"))}</a></p>
<form method="post" action="/logout"><button>{_safe(tr("Log out"))}</button></form>"""
    page = f"""<!doctype html>
<html lang="{"zh-Hans" if language() == "zh" else "en"}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{_safe(tr("Log in"))} · qianwen</title><style>{style}</style></head>
<body class="login"><main><h1>qianwen</h1>{body}</main></body>
</html>
"""
    # with no-referrer the form would send "Origin: null", which the gate refuses as another site
    headers = {"content-security-policy": policy, "referrer-policy": "same-origin", "cache-control": "no-store"}
    return HTMLResponse(page, 401 if is_wrong else 200, headers=headers)


def _file(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _safe(text: str) -> str:
    return html.escape(text)
