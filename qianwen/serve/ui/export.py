"""A conversation as Markdown and as JSON to download, and the read-only page of a shared one.

    /pages/conversations/ID.md .json    the owner's own conversation
    /pages/conversations/ID/share       POST creates the link, DELETE revokes it
    /shared/TOKEN                       what was shared: a copy, so what is said later stays private

A link is valid for whoever may use this server. Where API keys are required, its readers need one too.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
from importlib import resources
from urllib.parse import quote

from fastapi import APIRouter
from markdown_it import MarkdownIt
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from qianwen.runtime.translation import language, tr
from qianwen.serve.service import Service
from qianwen.serve.store import Conversation, Store
from qianwen.serve.ui.attachments import file_line
from qianwen.serve.ui.conversation import owner_of
from qianwen.serve.ui.turns import Turn

CONVERSATIONS = "/pages/conversations"
SHARED = "/shared"
STYLES = (("qianwen.runtime", "page.css"), ("qianwen.serve.ui", "shared.css"))
MARKDOWN = MarkdownIt("js-default", {"html": False}).disable("image")  # tags are text, images are links


def to_json(conversation: Conversation) -> str:
    """Title, settings and messages, with thoughts, files and how each answer ended."""
    fields = {"title": conversation.title, "updated": conversation.updated, "settings": conversation.settings}
    return json.dumps({**fields, "messages": conversation.messages}, ensure_ascii=False, indent=1) + "\n"


def to_markdown_file(conversation: Conversation) -> str:
    """The conversation as a document: one heading for each message, thoughts as quotations, files as code."""
    parts = [f"# {conversation.title}", *map(_section, conversation.messages)]
    return "\n\n".join(parts) + "\n"


def _section(turn: Turn) -> str:
    parts = [f"## {_author(turn)}"]
    for file in turn.get("files", ()):
        fence = "`" * max(3, 1 + max(map(len, re.findall("`+", file["text"])), default=0))
        parts += [file_line(file["name"], file["text"]), f"{fence}\n{file['text'].strip()}\n{fence}"]
    if thought := turn.get("reasoning_content"):
        parts.append("\n".join(f"> {line}" for line in thought.splitlines()))
    return "\n\n".join([*parts, turn["content"]])


def _author(turn: Turn) -> str:
    return tr("Question") if turn["role"] == "user" else turn.get("model") or tr("Answer")


def export_routes(service: Service) -> APIRouter:
    """The routes for downloads and links."""
    router, store = APIRouter(), service.store
    assert store is not None

    def own(http: Request, id: str) -> Conversation:
        conversation = store.conversation(owner_of(http.scope["key"]), id)
        if conversation is None:
            raise HTTPException(404, tr("there is no such conversation"))
        return conversation

    @router.get(f"{CONVERSATIONS}/{{id}}.md", include_in_schema=False)
    def markdown(http: Request, id: str) -> Response:
        conversation = own(http, id)
        return _download(to_markdown_file(conversation), conversation, "md", "text/markdown")

    @router.get(f"{CONVERSATIONS}/{{id}}.json", include_in_schema=False)
    def as_json(http: Request, id: str) -> Response:
        conversation = own(http, id)
        return _download(to_json(conversation), conversation, "json", "application/json")

    @router.post(f"{CONVERSATIONS}/{{id}}/share", include_in_schema=False)
    def share(http: Request, id: str) -> Response:
        return JSONResponse({"address": f"{SHARED}/{store.share(owner_of(http.scope['key']), own(http, id))}"})

    @router.delete(f"{CONVERSATIONS}/{{id}}/share", include_in_schema=False)
    def revoke(http: Request, id: str) -> Response:
        store.revoke_share(owner_of(http.scope["key"]), id)
        return JSONResponse({})

    @router.get(f"{SHARED}/{{token}}", include_in_schema=False)
    def shared(token: str) -> Response:
        conversation = store.shared(token)
        if conversation is None:
            raise HTTPException(404, tr("this link does not exist, or it was revoked"))
        return _page(conversation)

    return router


def menu_html(store: Store, owner: str, conversation: Conversation) -> str:
    """The menu of an open conversation. `pages.js` listens to its buttons."""
    base = f"{CONVERSATIONS}/{quote(conversation.id, safe='')}"
    token = store.share_token(owner, conversation.id)
    address = f"{SHARED}/{token}" if token else ""
    names = {"md": tr("Download as Markdown"), "json": tr("Download as JSON")}
    links = "".join(f'<a href="{base}.{kind}" download>{_safe(name)}</a>' for kind, name in names.items())
    return (
        f'<details id="more" data-share="{base}/share"><summary>{_safe(tr("Export"))}</summary><div>{links}'
        f'<button type="button" data-act="POST"{_hidden(bool(token))}>{_safe(tr("Share a read-only link"))}</button>'
        f'<p{_hidden(not token)}><a href="{address}" target="_blank">{_safe(tr("Shared link"))}</a> '
        f'<button type="button" data-act="DELETE">{_safe(tr("Stop sharing"))}</button></p></div></details>'
    )


def _hidden(is_hidden: bool) -> str:
    return " hidden" if is_hidden else ""


def _download(text: str, conversation: Conversation, suffix: str, media_type: str) -> Response:
    name = quote(f"{conversation.title or 'conversation'}.{suffix}", safe="")
    headers = {"content-disposition": f"attachment; filename*=UTF-8''{name}", "cache-control": "no-store"}
    return Response(text.encode("utf-8", "replace"), media_type=f"{media_type}; charset=utf-8", headers=headers)


def _page(conversation: Conversation) -> HTMLResponse:
    """The shared conversation as a page without any script."""
    style = "".join(resources.files(package).joinpath(name).read_text(encoding="utf-8") for package, name in STYLES)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; frame-ancestors 'none'; base-uri 'none'; sandbox"
    turns = "".join(map(_turn_html, conversation.messages))
    page = f"""<!doctype html>
<html lang="{"zh-Hans" if language() == "zh" else "en"}">
<head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{_safe(conversation.title)} · qianwen</title><style>{style}</style></head>
<body class="shared"><main><h1>{_safe(conversation.title)}</h1>{turns}</main></body>
</html>
"""
    headers = {"content-security-policy": policy, "referrer-policy": "no-referrer", "cache-control": "no-store"}
    return HTMLResponse(page, headers=headers)


def _turn_html(turn: Turn) -> str:
    files = "".join(f"<p>{_safe(file_line(file['name'], file['text']))}</p>" for file in turn.get("files", ()))
    thought = turn.get("reasoning_content")
    folded = f"<details><summary>{_safe(tr('Thoughts'))}</summary>{_safe(thought)}</details>" if thought else ""
    body = MARKDOWN.render(turn["content"])
    return f'<article class="{turn["role"]}"><h2>{_safe(_author(turn))}</h2>{files}{folded}{body}</article>'


def _safe(text: str) -> str:
    return html.escape(text)
