"""The chat page: its components and their event handlers. `conversation.py` generates the answers.

    left      conversations: new, search, open        right   settings (`panel.py`)
    middle    title, conversation, meter of the context in use, question

The page itself stores only which conversation is open. Everything else is read from the store, so every tab shows the
same, and a restart of the server loses nothing.
"""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any, cast

import gradio as gr

from qianwen.runtime.errors import QianwenError
from qianwen.runtime.translation import tr
from qianwen.serve.gate import ANONYMOUS, AccessRules
from qianwen.serve.store import Conversation, Key
from qianwen.serve.ui.attachments import edited_question, picker_html, read_attached
from qianwen.serve.ui.bubbles import CONTINUE, chatbot_messages, last_question
from qianwen.serve.ui.conversation import (
    ChatBackend,
    Frame,
    Settings,
    add_question,
    continue_answer,
    num_tokens,
    open_conversation,
    owner_of,
    question_at,
    retry,
    title_of,
)
from qianwen.serve.ui.export import menu_html
from qianwen.serve.ui.login import LOGIN
from qianwen.serve.ui.meter import meter
from qianwen.serve.ui.panel import Panel, compare_options, html_block, menu_options, model_menu
from qianwen.serve.ui.text import from_markdown

Update = dict[Any, Any]
Change = Callable[[Conversation, Settings], Conversation]
MATHEMATICS = [
    {"left": "$$", "right": "$$", "display": True},
    {"left": "\\[", "right": "\\]", "display": True},
    {"left": "\\(", "right": "\\)", "display": False},
]
IDLE: dict[str, Any] = {"submit_btn": True, "stop_btn": False}
BUSY: dict[str, Any] = {"submit_btn": False, "stop_btn": True}


def chat_page(pages: gr.Blocks, backend: ChatBackend, access: AccessRules) -> None:
    """Build the current page of `pages`."""
    ChatPage(backend, access).listen(pages)


def key_of(request: gr.Request) -> Key:
    """The API key of a request, as the gate found it."""
    return request.request.scope["key"]  # type: ignore[union-attr]


class ChatPage:
    """The components of the page and their event handlers."""

    def __init__(self, backend: ChatBackend, access: AccessRules) -> None:
        self.backend, self.service, self.store, self.access = backend, backend.service, backend.store, access
        self.open_id = gr.State(None)
        gr.Navbar(visible=False)
        with gr.Sidebar(elem_id="left", width=280):
            with gr.Row(elem_id="top"):
                gr.Markdown("# qianwen", elem_id="brand", container=False)
                self.to_runs = gr.Button(
                    tr("Runs"), link="/runs", link_target="_self", size="sm", scale=0, elem_id="to-runs",
                    visible=access.sees_runs(ANONYMOUS),
                )  # fmt: skip
                if access.keys_required:
                    gr.Button(tr("API key"), link=LOGIN, link_target="_self", size="sm", scale=0, elem_id="to-login")
            self.new = gr.Button(tr("New conversation"), variant="primary", elem_id="new")
            self.search = gr.Textbox(
                show_label=False, label=tr("Search"), placeholder=tr("Search"), container=False, elem_id="search"
            )
            self.conversations = gr.Radio([], label=tr("Conversations"), elem_id="history")
        with gr.Column(elem_id="middle"):
            with gr.Row(elem_id="head"):
                self.title = gr.Textbox(
                    show_label=False, label=tr("Title"), container=False, visible=False, elem_id="title",
                    max_length=200, scale=1,
                )  # fmt: skip
                menu = model_menu(self.service)
                self.more = html_block(elem_id="menu", is_own=True, visible=False)
                self.delete = gr.Button(tr("Delete"), size="sm", visible=False, scale=0, elem_id="delete")
                self.confirm_delete = gr.Button(
                    tr("Confirm deletion"), size="sm", variant="stop", visible=False, scale=0, elem_id="confirm-delete"
                )
            with gr.Row(elem_id="sides"):
                look: dict[str, Any] = {
                    "show_label": False, "container": False, "height": "100%", "buttons": ["copy"], "layout": "bubble",
                    "allow_tags": False, "latex_delimiters": MATHEMATICS,
                }  # fmt: skip
                self.chat = gr.Chatbot(
                    elem_id="chat", label=tr("Conversation"), editable="user", placeholder=self._greeting(),
                    examples=[{"text": text} for text in _examples()], **look,
                )  # fmt: skip
                self.other = gr.Chatbot(elem_id="other", label=tr("Second model"), visible=False, **look)
            with gr.Row(elem_id="above"):
                self.meter = gr.Markdown(elem_id="meter", container=False)
                html_block(picker_html(), elem_id="picker", is_own=True)
            self.question = gr.Textbox(
                show_label=False, label=tr("Your question"), placeholder=tr("Ask a question"), lines=1, max_lines=12,
                autofocus=True, container=False, elem_id="question", **IDLE,
            )  # fmt: skip
            # the attached files as JSON; `pages.js` fills it, and it is not displayed
            self.files = gr.Textbox(show_label=False, container=False, elem_id="attached", label=tr("Attached files"))
            # `pages.js` empties the box when it sends a question. A new time in here means: it was refused, put it back
            self.refused = html_block(elem_id="refused")
        with gr.Sidebar(elem_id="right", position="right", open=False, width=320):
            self.panel = Panel(self.service, menu)

    def listen(self, pages: gr.Blocks) -> None:
        """Connect the components to their handlers."""
        # Gradio's queue has one event stream for each page. Only answers use it; short handlers run outside the queue.
        quiet: dict[str, Any] = {"show_progress": "hidden", "api_visibility": "private"}
        silent: dict[str, Any] = quiet | {"queue": False}
        streaming: dict[str, Any] = quiet | {"concurrency_limit": None}
        answering = [
            self.chat, self.other, self.meter, self.question, self.refused, self.open_id, self.title, self.more,
            self.delete, self.confirm_delete, self.conversations,
        ]  # fmt: skip
        showing = [*answering, *self.panel.components]
        state = [self.open_id, self.search, *self.panel.components]
        pages.load(self.load, None, [*showing, self.to_runs], **silent)
        # One event for both, so that the result of an older search cannot arrive later and replace the list. It is
        # `change`, because pasting does not fire `input`.
        gr.on(
            [pages.load, self.search.change],
            self.find,
            [self.search],
            [self.conversations],
            trigger_mode="always_last",
            **silent,
        )
        answers = [
            # A question sent during an answer waits for its end. Dropping it would also drop one sent just at the end.
            self.question.submit(
                self.ask, [self.question, self.files, *state], answering, trigger_mode="always_last", **streaming
            ),
            self.chat.retry(self.regenerate, state, answering, **streaming),
            self.chat.edit(self.edit, state, answering, **streaming),
            self.chat.option_select(self.choose, state, answering, **streaming),
            self.chat.example_select(self.example, state, answering, **streaming),
        ]
        self.question.stop(self.stop, None, None, **silent)
        for event in (self.new.click, self.conversations.input, self.confirm_delete.click):
            event(None, cancels=cast(Any, answers))  # cancel first, so that the answer does not continue elsewhere
        self.new.click(self.start_new, None, showing, **silent)
        self.conversations.input(self.open, [self.conversations], showing, **silent)
        self.confirm_delete.click(self.remove, [self.open_id, self.search], showing, **silent)
        parts = self.panel.parts
        gr.on(
            [part.change for part in (self.question, self.files, parts["system"], parts["model"])],
            self.update_meter, [self.question, self.files, self.open_id, *self.panel.components], [self.meter],
            trigger_mode="always_last", **silent,
        )  # fmt: skip
        for event in (self.title.submit, self.title.blur):
            event(self.rename, [self.title, self.open_id, self.search], [self.title, self.conversations], **silent)
        self.delete.click(lambda: gr.update(visible=True), None, [self.confirm_delete], **silent)

    # ---- updates of the components ----

    def _greeting(self) -> str:
        names = ", ".join(self.service.models)
        return f"<h2>{tr('What would you like to know?')}</h2><p>{html.escape(names)}</p>"

    def _search_result(self, key: Key, search: str) -> dict[str, Any]:
        rows = self.store.conversation_titles(owner_of(key), search=search or "")
        nothing = tr("No conversation contains this text.") if search else tr("Your conversations are saved here.")
        return {"choices": [(title, id) for id, title in rows], "info": "" if rows else nothing}

    def _list_update(self, key: Key, search: str, open_id: str | None) -> Any:
        result = self._search_result(key, search)
        is_listed = any(id == open_id for _, id in result["choices"])
        return gr.update(**result, value=open_id if is_listed else None)

    def _bubbles(self, conversation: Conversation, *, is_live: bool) -> Update:
        """The updates of both chat components."""
        show: dict[str, Any] = {"is_live": is_live, "with_names": len(self.service.models) > 1}
        update: Update = {self.chat: chatbot_messages(conversation, **show)}
        if conversation.settings.get("compare"):
            update[self.other] = chatbot_messages(conversation, side=1, **show)
        return update

    def _chat_update(self, conversation: Conversation, used: int, speed: float = 0.0, ended: str = "") -> Update:
        served = self.service.model(conversation.settings["model"])
        bubbles = self._bubbles(conversation, is_live=self.backend.is_live(conversation.id))
        return bubbles | {self.meter: meter(served, used, speed, ended)}

    def _page_update(self, key: Key, conversation: Conversation, used: int) -> Update:
        is_saved = bool(conversation.messages)
        more = menu_html(self.store, owner_of(key), conversation) if is_saved else ""
        update = self._chat_update(conversation, used)
        # the second chat component is visible while the conversation compares two models
        second = gr.update(value=update.get(self.other, []), visible=self.other in update)
        return update | {
            self.other: second,
            self.open_id: conversation.id if is_saved else None,
            self.title: gr.update(value=conversation.title, visible=is_saved),
            self.more: gr.update(value=more, visible=is_saved),
            self.delete: gr.update(visible=is_saved),
            self.confirm_delete: gr.update(visible=False),
        }

    async def _num_used_tokens(self, settings: Settings, conversation: Conversation) -> int:
        served = self.service.model(settings.model)
        return await asyncio.to_thread(num_tokens, served, settings, conversation.messages)

    # ---- open, search, rename, delete ----

    async def open(self, request: gr.Request, id: str | None) -> Update:
        """Open a conversation with its settings; an empty page if it does not exist."""
        conversation = open_conversation(self.store, key_of(request), id, Settings.from_model(self.service.model(None)))
        settings = Settings.from_saved(conversation, self.service)
        conversation.settings.update(asdict(settings))
        used = await self._num_used_tokens(settings, conversation)
        return (
            self._page_update(key_of(request), conversation, used)
            | self.panel.update(settings)
            | {self.question: gr.update(**IDLE)}
        )

    async def load(self, request: gr.Request) -> Update:
        """Open the conversation in the address. `pages.js` updates the address, so a reload opens the same one."""
        update = await self.open(request, request.query_params.get("open"))
        menu, compare, options = self.panel.parts["model"], self.panel.parts["compare"], menu_options(self.service)
        name = request.query_params.get("model")
        value = name if update[self.open_id] is None and name in self.service.models else update[menu]
        listed = {self.conversations: gr.update(value=update[self.open_id])}
        second = gr.update(**compare_options(self.service), value=update[compare])
        runs = gr.update(visible=self.access.sees_runs(key_of(request)))
        return update | listed | {menu: gr.update(**options, value=value), compare: second, self.to_runs: runs}

    async def start_new(self, request: gr.Request) -> Update:
        return await self.open(request, None) | {
            self.conversations: gr.update(value=None),
            self.question: gr.update(value="", **IDLE),
        }

    async def find(self, request: gr.Request, search: str) -> Any:
        return gr.update(**self._search_result(key_of(request), search))

    async def rename(self, request: gr.Request, title: str, open_id: str | None, search: str) -> Update:
        title = title_of(title)
        key = key_of(request)
        if open_id and title:
            self.store.rename_conversation(owner_of(key), open_id, title)
        saved = open_conversation(self.store, key, open_id, Settings.from_model(self.service.model(None)))
        return {self.title: saved.title, self.conversations: self._list_update(key, search, open_id)}

    async def remove(self, request: gr.Request, open_id: str | None, search: str) -> Update:
        key = key_of(request)
        self.store.delete_conversation(owner_of(key), open_id or "")
        return await self.open(request, None) | {self.conversations: self._list_update(key, search, None)}

    async def update_meter(
        self, request: gr.Request, draft: str, attached: str, open_id: str | None, *values: Any
    ) -> Any:
        """Update the meter while the user types; while an answer is generated, `_generate` updates it."""
        if self.backend.is_answering(key_of(request), request.session_hash or ""):
            return gr.skip()
        settings = self.panel.settings(values)
        conversation = open_conversation(self.store, key_of(request), open_id, settings)
        files = read_attached(attached)
        has_draft = draft.strip() or files
        with_draft = add_question(conversation, draft or "…", settings, files=files) if has_draft else conversation
        return meter(self.service.model(settings.model), await self._num_used_tokens(settings, with_draft))

    # ---- questions and answers ----

    async def ask(self, request: gr.Request, question: str, attached: str, *state: Any) -> AsyncIterator[Update]:
        if not question.strip():
            yield {self.question: gr.skip()}
            return

        def add(conversation: Conversation, settings: Settings) -> Conversation:
            return add_question(conversation, question, settings, files=read_attached(attached))

        async for update in self._generate(request, state, add, question):
            yield update

    async def example(self, request: gr.Request, data: gr.SelectData, *state: Any) -> AsyncIterator[Update]:
        async for update in self._generate(request, state, lambda c, s: add_question(c, data.value["text"], s)):
            yield update

    async def regenerate(self, request: gr.Request, data: gr.RetryData, *state: Any) -> AsyncIterator[Update]:
        async for update in self._generate(request, state, lambda c, s: retry(c, s, _message_index(data.index))):
            yield update

    async def edit(self, request: gr.Request, data: gr.EditData, *state: Any) -> AsyncIterator[Update]:
        shown, place = from_markdown(str(data.value)), _message_index(data.index)

        def change(conversation: Conversation, settings: Settings) -> Conversation:
            text, files = edited_question(question_at(conversation, place), shown)
            return add_question(conversation, text, settings, at=place, files=files)

        async for update in self._generate(request, state, change):
            yield update

    async def choose(self, request: gr.Request, data: gr.SelectData, *state: Any) -> AsyncIterator[Update]:
        """The buttons below an answer that ended early."""
        change: Change = continue_answer if data.value == CONTINUE else lambda c, s: retry(c, s, last_question(c))
        async for update in self._generate(request, state, change):
            yield update

    async def stop(self, request: gr.Request) -> None:
        self.backend.stop(key_of(request), request.session_hash or "")

    async def _generate(
        self, request: gr.Request, state: tuple[Any, ...], change: Change, draft: str = ""
    ) -> AsyncIterator[Update]:
        """Answer a changed conversation. After a refusal the conversation and the draft are as before."""
        key, (open_id, search, *values) = key_of(request), state
        before, frame, failure, is_listed = None, None, None, False
        try:
            settings = self.panel.settings(values)
            before = open_conversation(self.store, key, open_id, settings)
            conversation = change(before, settings)
            yield self._bubbles(conversation, is_live=True) | {self.question: gr.update(**BUSY)}
            async for frame in self.backend.answer(key, request.session_hash or "", conversation):
                if is_listed:  # do not update the title: the user may be editing it
                    yield self._chat_update(frame.conversation, frame.used, frame.speed)
                    continue
                is_listed, listing = True, self._list_update(key, search, conversation.id)
                yield self._page_update(key, frame.conversation, frame.used) | {self.conversations: listing}
        except QianwenError as error:
            gr.Warning(html.escape(str(error)), title=tr("No answer"))
        except Exception as error:
            failure = error  # raised below, after the page is usable again; Gradio then reports it
        if frame is None:
            bubbles = {} if before is None else self._bubbles(before, is_live=False)
            refused = f"<p>{time.time()}</p>" if draft else gr.skip()
            yield bubbles | {self.refused: refused, self.question: gr.update(**IDLE)}
        else:
            listing = self._list_update(key, search, frame.conversation.id)
            saved = self.store.conversation(owner_of(key), frame.conversation.id) or frame.conversation
            update = self._chat_update(saved, frame.used, frame.speed, _why_it_ended(frame))
            # Gradio may lose an update of what is visible while an answer grows, so the last one repeats it
            shown = {part: gr.update(visible=True) for part in (self.title, self.more, self.delete)}
            yield update | shown | {self.conversations: listing, self.question: gr.update(**IDLE)}
        if failure is not None:
            raise failure


def _message_index(index: int | tuple[int, ...] | list[int]) -> int:
    return index if isinstance(index, int) else index[0]


def _why_it_ended(frame: Frame) -> str:
    if frame.end == "content_filter":
        return tr("stopped by the content filter of this server")
    return ""


def _examples() -> list[str]:
    return [
        tr("Write a Python function that reverses a string."),
        tr("Explain recursion in two sentences."),
        tr("Translate into Chinese: Good morning, how are you?"),
    ]
