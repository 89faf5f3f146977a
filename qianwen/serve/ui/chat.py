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
from typing import Any, cast

import gradio as gr

from qianwen.runtime.errors import QianwenError
from qianwen.runtime.translation import tr
from qianwen.serve.store import Conversation, Key
from qianwen.serve.ui.conversation import Desk, Frame, Settings, asked, asked_again, num_tokens, owner_of, title_of
from qianwen.serve.ui.conversation import open_conversation as opened
from qianwen.serve.ui.login import LOGIN
from qianwen.serve.ui.panel import Panel
from qianwen.serve.ui.text import meant, shown, shown_answer

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


def meter(used: int, context: int, speed: float = 0.0, ended: str = "") -> str:
    """How full the context is, as a bar and in words; how fast the last answer came, and what ended it early."""
    state = "full" if used >= context else "high" if used >= FULL * context else "low"
    said = tr("{used:,} of {context:,} tokens", used=used, context=context)
    if state == "full":
        said = tr("{said}: more than this model can read. Shorten the question or begin a new conversation", said=said)
    elif state == "high":
        said = tr("{said}: nearly full, begin a new conversation soon", said=said)
    if speed:
        said = tr("{said} · {speed:.1f} tokens a second", said=said, speed=speed)
    if ended:
        said = f"{said} · {ended}"
    bar = f'<meter class="{state}" min="0" max="{context}" value="{min(used, context)}"></meter>'
    return f'<label class="{state}">{bar} <span>{html.escape(said)}</span></label>'


def messages_shown(conversation: Conversation) -> list[dict[str, str]]:
    """What the chat component is given."""
    show = {"user": shown, "assistant": shown_answer}
    return [{"role": m["role"], "content": show[m["role"]](m["content"])} for m in conversation.messages]


class ChatPage:
    """The components of one page and the functions that Gradio calls with their values."""

    def __init__(self, desk: Desk, *, with_login: bool, with_runs: bool) -> None:
        self.desk, self.service, self.store = desk, desk.service, desk.store
        self.open_id = gr.State(None)
        gr.Navbar(visible=False)
        with gr.Sidebar(elem_id="left", width=280):
            with gr.Row(elem_id="top"):
                gr.Markdown("# qianwen", elem_id="brand", container=False)
                if with_runs:
                    gr.Button(tr("Runs"), link="/runs", link_target="_self", size="sm", scale=0, elem_id="to-runs")
                if with_login:
                    gr.Button(tr("API key"), link=LOGIN, link_target="_self", size="sm", scale=0, elem_id="to-login")
            self.new = gr.Button(tr("New conversation"), variant="primary", elem_id="new")
            self.search = gr.Textbox(
                show_label=False, label=tr("Search"), placeholder=tr("Search"), container=False, elem_id="search"
            )
            self.kept = gr.Radio([], label=tr("Conversations"), elem_id="kept")
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
        # What takes no time is answered at once: Gradio's queue and its one stream for a page are for answers alone.
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        silent: dict[str, Any] = quiet | {"queue": False}
        growing: dict[str, Any] = quiet | {"concurrency_limit": None}
        answering = [self.chat, self.meter, self.question, self.open_id, self.title, self.delete, self.sure, self.kept]
        showing = [*answering, *self.panel.components]
        state = [self.open_id, self.search, *self.panel.components]
        pages.load(self.arrive, None, showing, **silent)
        # one event, lest the list of an earlier search come later; `change`, since what is pasted is no `input`
        gr.on(
            [pages.load, self.search.change],
            self.find,
            [self.search],
            [self.kept],
            trigger_mode="always_last",
            **silent,
        )
        answers = [
            # what is sent while an answer grows is asked behind it: dropping it would also drop what is sent as it ends
            self.question.submit(self.ask, [self.question, *state], answering, trigger_mode="always_last", **growing),
            self.chat.retry(self.ask_again, state, answering, **growing),
            self.chat.edit(self.edit, state, answering, **growing),
            self.chat.example_select(self.example, state, answering, **growing),
        ]
        self.question.stop(self.stop, None, None, **silent)
        for leaving in (self.new.click, self.kept.input, self.sure.click):
            leaving(None, cancels=cast(Any, answers))  # what grows must not follow who leaves it, so this comes first
        self.new.click(self.begin, None, showing, **silent)
        self.kept.input(self.open, [self.kept], showing, **silent)
        self.sure.click(self.remove, [self.open_id, self.search], showing, **silent)
        gr.on(
            [self.question.change, self.panel.parts["system"].change, self.panel.parts["model"].change],
            self.weigh, [self.question, self.open_id, *self.panel.components], [self.meter],
            trigger_mode="always_last", **silent,
        )  # fmt: skip
        for event in (self.title.submit, self.title.blur):
            event(self.rename, [self.title, self.open_id, self.search], [self.title, self.kept], **silent)
        self.delete.click(lambda: gr.update(visible=True), None, [self.sure], **silent)

    # ---- what is shown ----

    def _greeting(self) -> str:
        names = ", ".join(self.service.models)
        return f"<h2>{tr('What would you like to know?')}</h2><p>{html.escape(names)}</p>"

    def _found(self, key: Key, search: str) -> dict[str, Any]:
        rows = self.store.conversation_titles(owner_of(key), search=search or "")
        nothing = tr("No conversation says this.") if search else tr("What you ask will be kept here.")
        return {"choices": [(title, id) for id, title in rows], "info": "" if rows else nothing}

    def _listing(self, key: Key, search: str, open_id: str | None) -> Any:
        found = self._found(key, search)
        is_listed = any(id == open_id for _, id in found["choices"])
        return gr.update(**found, value=open_id if is_listed else None)

    def _told(self, conversation: Conversation, used: int, speed: float = 0.0, ended: str = "") -> Update:
        context = self.service.model(conversation.settings["model"]).context
        return {self.chat: messages_shown(conversation), self.meter: meter(used, context, speed, ended)}

    def _whole(self, conversation: Conversation, used: int) -> Update:
        is_kept = bool(conversation.messages)
        return self._told(conversation, used) | {
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
        return self._whole(conversation, used) | self.panel.showing(settings) | {self.question: gr.update(**IDLE)}

    async def arrive(self, request: gr.Request) -> Update:
        """What the address names, which `pages.js` keeps true; a page that is loaded again is where it was."""
        update = await self.open(request, request.query_params.get("open"))
        return update | {self.kept: gr.update(value=update[self.open_id])}

    async def begin(self, request: gr.Request) -> Update:
        return await self.open(request, None) | {
            self.kept: gr.update(value=None),
            self.question: gr.update(value="", **IDLE),
        }

    async def find(self, request: gr.Request, search: str) -> Any:
        return gr.update(**self._found(visitor(request), search))

    async def rename(self, request: gr.Request, title: str, open_id: str | None, search: str) -> Update:
        title = title_of(title)
        key = visitor(request)
        if open_id and title:
            self.store.rename_conversation(owner_of(key), open_id, title)
        kept = opened(self.store, key, open_id, Settings.of(self.service.model(None)))
        return {self.title: kept.title, self.kept: self._listing(key, search, open_id)}

    async def remove(self, request: gr.Request, open_id: str | None, search: str) -> Update:
        key = visitor(request)
        self.store.delete_conversation(owner_of(key), open_id or "")
        return await self.open(request, None) | {self.kept: self._listing(key, search, None)}

    async def weigh(self, request: gr.Request, draft: str, open_id: str | None, *values: Any) -> Any:
        """The meter while a question is being written; while one is answered, its answer moves the meter."""
        if self.desk.is_answering(visitor(request), request.session_hash or ""):
            return gr.skip()
        settings = self.panel.settings(values)
        conversation = opened(self.store, visitor(request), open_id, settings)
        drafted = asked(conversation, draft, settings) if draft.strip() else conversation
        return meter(await self._used(settings, drafted), self.service.model(settings.model).context)

    # ---- asking ----

    async def ask(self, request: gr.Request, question: str, *state: Any) -> AsyncIterator[Update]:
        if not question.strip():
            yield {self.question: gr.skip()}
            return
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
        before, frame, failure, is_listed = None, None, None, False
        try:
            settings = self.panel.settings(values)
            before = opened(self.store, key, open_id, settings)
            conversation = change(before, settings)
            yield {self.chat: messages_shown(conversation), self.question: gr.update(value="", **BUSY)}
            async for frame in self.desk.answer(key, request.session_hash or "", conversation):
                if is_listed:  # its title may be in the hands of the reader
                    yield self._told(frame.conversation, frame.used, frame.speed)
                    continue
                is_listed, listing = True, self._listing(key, search, conversation.id)
                # Gradio reads a component while it writes another of its properties, and may put back what it read
                emptied = {self.kept: listing, self.question: gr.update(value="")}
                yield self._whole(frame.conversation, frame.used) | emptied
        except QianwenError as error:
            gr.Warning(html.escape(str(error)), title=tr("Not answered"))
        except Exception as error:
            failure = error  # Gradio's to tell, once the page can be used again
        if frame is None:
            seen = gr.skip() if before is None else messages_shown(before)
            yield {self.chat: seen, self.question: gr.update(value=draft, **IDLE)}
        else:
            listing = self._listing(key, search, frame.conversation.id)
            told = self._told(frame.conversation, frame.used, frame.speed, _why_it_ended(frame))
            yield told | {self.kept: listing, self.question: gr.update(**IDLE)}
        if failure is not None:
            raise failure


def _place(index: int | tuple[int, ...] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]


def _why_it_ended(frame: Frame) -> str:
    if frame.end == "content_filter":
        return tr("the guard of this server withheld the rest")
    if frame.end == "length":
        return tr("cut short: the answer has as many tokens as allowed")
    return ""


def _examples() -> list[str]:
    return [
        tr("Write a Python function that reverses a string."),
        tr("Explain recursion in two sentences."),
        tr("Translate into Chinese: Good morning, how are you?"),
    ]
