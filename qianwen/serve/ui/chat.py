"""The chat page: what stands on it and what happens when it is touched. What a question goes through is elsewhere.

    left      conversations: new, search, open        right   settings (`panel.py`)
    middle    title, the conversation, how full the context is, the question

The page itself remembers only which conversation is open; everything else is read from the store, so every tab sees
the same, and a restart loses nothing.
"""

from __future__ import annotations

import asyncio
import html
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any

import gradio as gr

from qianwen.runtime.errors import QianwenError
from qianwen.runtime.language import tr
from qianwen.serve.store import Conversation, Key
from qianwen.serve.ui.conversation import Desk, Frame, Settings, asked, asked_again, num_tokens, owner_of, title_of
from qianwen.serve.ui.conversation import open_conversation as opened
from qianwen.serve.ui.login import LOGIN
from qianwen.serve.ui.panel import Panel
from qianwen.serve.ui.text import meant, shown

Update = dict[Any, Any]
Change = Callable[[Conversation, Settings], Conversation]
FULL = 0.8  # of the context: from here on the meter warns
MATHEMATICS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
IDLE: dict[str, Any] = {"submit_btn": True, "stop_btn": False}
BUSY: dict[str, Any] = {"submit_btn": False, "stop_btn": True}


def chat_page(pages: gr.Blocks, desk: Desk, *, with_login: bool, with_runs: bool) -> None:
    """Fill the page of `pages` that is open."""
    ChatPage(desk, with_login=with_login, with_runs=with_runs).listen(pages)


def visitor(request: gr.Request) -> Key:
    """Whom the door let in."""
    return request.request.scope["key"]  # type: ignore[union-attr]


def meter(used: int, context: int) -> str:
    """How full the context is, as a bar and in words."""
    state = "full" if used >= context else "high" if used >= FULL * context else "low"
    said = tr("{used:,} of {context:,} tokens", used=used, context=context)
    if state == "full":
        said = tr("{said}: more than this model can read. Shorten the question or begin a new conversation", said=said)
    elif state == "high":
        said = tr("{said}: nearly full, begin a new conversation soon", said=said)
    bar = f'<meter class="{state}" min="0" max="{context}" value="{min(used, context)}"></meter>'
    return f'<label class="{state}">{bar} <span>{html.escape(said)}</span></label>'


def messages_shown(conversation: Conversation) -> list[dict[str, str]]:
    """What the chat component is given."""
    return [{"role": m["role"], "content": shown(m["content"])} for m in conversation.messages]


class ChatPage:
    """The components of one page and the functions that Gradio calls with their values."""

    def __init__(self, desk: Desk, *, with_login: bool, with_runs: bool) -> None:
        self.desk, self.service, self.store = desk, desk.service, desk.store
        self.open_id = gr.State(None)
        gr.Navbar(visible=False)
        with gr.Sidebar(elem_id="left", width=280):
            gr.Markdown("# qianwen", elem_id="brand", container=False)
            self.new = gr.Button(tr("New conversation"), variant="primary", elem_id="new")
            self.search = gr.Textbox(
                show_label=False, label=tr("Search"), placeholder=tr("Search"), container=False, elem_id="search"
            )
            self.kept = gr.Radio([], label=tr("Conversations"), elem_id="kept")
            if with_runs:
                gr.Button(tr("Runs"), link="/runs", size="sm", elem_id="to-runs")
            if with_login:
                gr.Button(tr("API key"), link=LOGIN, size="sm", elem_id="to-login")
        with gr.Column(elem_id="middle"):
            with gr.Row(elem_id="head"):
                self.title = gr.Textbox(
                    show_label=False, label=tr("Title"), container=False, visible=False, elem_id="title",
                    max_length=200, scale=1,
                )  # fmt: skip
                self.delete = gr.Button(tr("Delete"), size="sm", visible=False, scale=0, elem_id="delete")
                self.sure = gr.Button(
                    tr("Really delete"), size="sm", variant="stop", visible=False, scale=0, elem_id="sure"
                )
            self.chat = gr.Chatbot(
                elem_id="chat", label=tr("Conversation"), show_label=False, container=False, height="100%",
                editable="user", buttons=["copy"], layout="bubble", allow_tags=False, latex_delimiters=MATHEMATICS,
                placeholder=self._greeting(), examples=[{"text": text} for text in _examples()],
            )  # fmt: skip
            self.meter = gr.Markdown(elem_id="meter", container=False)
            self.question = gr.Textbox(
                show_label=False, label=tr("Your question"), placeholder=tr("Ask something"), lines=1, max_lines=12,
                autofocus=True, container=False, elem_id="question", **IDLE,
            )  # fmt: skip
        with gr.Sidebar(elem_id="right", position="right", open=False, width=320):
            self.panel = Panel(self.service)

    def listen(self, pages: gr.Blocks) -> None:
        """Join the components to what they do."""
        silent: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private", "concurrency_limit": None}
        answering = [self.chat, self.meter, self.question, self.open_id, self.title, self.delete, self.sure, self.kept]
        showing = [*answering, *self.panel.components]
        state = [self.open_id, self.search, *self.panel.components]
        pages.load(self.arrive, None, showing, **silent)
        self.new.click(self.begin, None, showing, **silent)
        self.kept.input(self.open, [self.kept], showing, **silent)
        self.search.input(self.find, [self.search, self.open_id], [self.kept], trigger_mode="always_last", **silent)
        self.question.submit(self.ask, [self.question, *state], answering, **silent)
        self.question.stop(self.stop, None, None, **silent)
        self.chat.retry(self.ask_again, state, answering, **silent)
        self.chat.edit(self.edit, state, answering, **silent)
        self.chat.example_select(self.example, state, answering, **silent)
        gr.on(
            [self.question.input, self.panel.parts["system"].input, self.panel.parts["model"].input],
            self.weigh, [self.question, self.open_id, *self.panel.components], [self.meter],
            trigger_mode="always_last", **silent,
        )  # fmt: skip
        for event in (self.title.submit, self.title.blur):
            event(self.rename, [self.title, self.open_id, self.search], [self.title, self.kept], **silent)
        self.delete.click(lambda: gr.update(visible=True), None, [self.sure], **silent)
        self.sure.click(self.remove, [self.open_id, self.search], showing, **silent)

    # ---- what is shown ----

    def _greeting(self) -> str:
        names = ", ".join(self.service.models)
        return f"<h2>{tr('What would you like to know?')}</h2><p>{html.escape(names)}</p>"

    def _listing(self, key: Key, search: str, open_id: str | None) -> Any:
        rows = self.store.conversation_titles(owner_of(key), search=search or "")
        is_listed = any(id == open_id for id, _ in rows)
        return gr.update(choices=[(title, id) for id, title in rows], value=open_id if is_listed else None)

    def _whole(self, conversation: Conversation, used: int) -> Update:
        is_kept = bool(conversation.messages)
        return {
            self.chat: messages_shown(conversation),
            self.meter: meter(used, self.service.model(conversation.settings["model"]).context),
            self.open_id: conversation.id if is_kept else None,
            self.title: gr.update(value=conversation.title, visible=is_kept),
            self.delete: gr.update(visible=is_kept),
            self.sure: gr.update(visible=False),
        }

    async def _used(self, settings: Settings, conversation: Conversation) -> int:
        served = self.service.model(settings.model)
        return await asyncio.to_thread(num_tokens, served, settings, conversation.messages)

    # ---- opening, finding, naming, removing ----

    async def open(self, request: gr.Request, id: str | None) -> Update:
        """A conversation with its settings; an empty page where it is gone."""
        conversation = opened(self.store, visitor(request), id, Settings.of(self.service.model(None)))
        settings = Settings.kept(conversation, self.service)
        conversation.settings.update(asdict(settings))
        used = await self._used(settings, conversation)
        return self._whole(conversation, used) | self.panel.showing(settings)

    async def arrive(self, request: gr.Request) -> Update:
        return await self.open(request, None) | {self.kept: self._listing(visitor(request), "", None)}

    async def begin(self, request: gr.Request) -> Update:
        return await self.open(request, None) | {self.kept: gr.update(value=None), self.question: gr.update(value="")}

    async def find(self, request: gr.Request, search: str, open_id: str | None) -> Any:
        return self._listing(visitor(request), search, open_id)

    async def rename(self, request: gr.Request, title: str, open_id: str | None, search: str) -> Update:
        title = title_of(title)
        key = visitor(request)
        if open_id and title:
            self.store.rename_conversation(owner_of(key), open_id, title)
        kept = opened(self.store, key, open_id, Settings.of(self.service.model(None)))
        return {self.title: kept.title, self.kept: self._listing(key, search, open_id)}

    async def remove(self, request: gr.Request, open_id: str | None, search: str) -> Update:
        key = visitor(request)
        self.desk.stop(key, request.session_hash or "")
        self.store.delete_conversation(owner_of(key), open_id or "")
        return await self.open(request, None) | {self.kept: self._listing(key, search, None)}

    async def weigh(self, request: gr.Request, draft: str, open_id: str | None, *values: Any) -> str:
        """The meter while a question is being written."""
        settings = self.panel.settings(values)
        conversation = opened(self.store, visitor(request), open_id, settings)
        drafted = asked(conversation, draft, settings) if draft.strip() else conversation
        return meter(await self._used(settings, drafted), self.service.model(settings.model).context)

    # ---- asking ----

    async def ask(self, request: gr.Request, question: str, *state: Any) -> AsyncIterator[Update]:
        async for update in self._answered(request, state, lambda c, s: asked(c, question, s), question):
            yield update

    async def example(self, request: gr.Request, data: gr.SelectData, *state: Any) -> AsyncIterator[Update]:
        async for update in self._answered(request, state, lambda c, s: asked(c, data.value["text"], s)):
            yield update

    async def ask_again(self, request: gr.Request, data: gr.RetryData, *state: Any) -> AsyncIterator[Update]:
        async for update in self._answered(request, state, lambda c, s: asked_again(c, s, _place(data.index))):
            yield update

    async def edit(self, request: gr.Request, data: gr.EditData, *state: Any) -> AsyncIterator[Update]:
        text, place = meant(str(data.value)), _place(data.index)
        async for update in self._answered(request, state, lambda c, s: asked(c, text, s, at=place)):
            yield update

    async def stop(self, request: gr.Request) -> None:
        self.desk.stop(visitor(request), request.session_hash or "")

    async def _answered(
        self, request: gr.Request, state: tuple[Any, ...], change: Change, draft: str = ""
    ) -> AsyncIterator[Update]:
        """The answer to a changed conversation. A refusal leaves it as it was, and the draft in the box."""
        key, (open_id, search, *values) = visitor(request), state
        before, frame, is_listed = None, None, False
        try:
            settings = self.panel.settings(values)
            before = opened(self.store, key, open_id, settings)
            conversation = change(before, settings)
            yield {self.chat: messages_shown(conversation), self.question: gr.update(value="", **BUSY)}
            async for frame in self.desk.answer(key, request.session_hash or "", conversation):
                growing = self._whole(frame.conversation, frame.used)
                if not is_listed:
                    growing[self.kept] = self._listing(key, search, conversation.id)
                    is_listed = True
                yield growing
        except QianwenError as error:
            gr.Warning(html.escape(str(error)), title=tr("Not answered"))
        if frame is None:
            seen = gr.skip() if before is None else messages_shown(before)
            yield {self.chat: seen, self.question: gr.update(value=draft, **IDLE)}
            return
        if why := _why_it_ended(frame):
            gr.Info(why, title=tr("The answer ended early"))
        yield self._whole(frame.conversation, frame.used) | {
            self.kept: self._listing(key, search, frame.conversation.id),
            self.question: gr.update(**IDLE),
        }


def _place(index: int | tuple[int, ...] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]


def _why_it_ended(frame: Frame) -> str:
    if frame.end == "content_filter":
        return tr("The guard of this server withheld the rest.")
    if frame.end == "length":
        return tr("It has as many tokens as the settings allow, or the context is full.")
    return ""


def _examples() -> list[str]:
    return [
        tr("Write a Python function that reverses a string."),
        tr("Explain recursion in two sentences."),
        tr("Translate into Chinese: Good morning, how are you?"),
    ]
