"""One question on the chat page, from the text box to the store.

It becomes a request as a client would send it to `/v1/chat/completions`, with the same steps: validation, guard,
admission with quotas, bridge, metrics, usage of the key. In addition the conversation is saved: when its question is
admitted, every few seconds, and when the answer ends, also after an error.

This module does not use Gradio.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qianwen.chat.messages import from_openai
from qianwen.engine.chat_run import ChatRun
from qianwen.runtime.errors import RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.chat_routes import prepare_chat, run
from qianwen.serve.gate import ANONYMOUS
from qianwen.serve.guard import check_prompt
from qianwen.serve.protocol import ChatCompletionRequest, parse
from qianwen.serve.service import Served, Service
from qianwen.serve.store import Conversation, Key, Store

TITLE_LEN = 60  # characters
FRAME_SECONDS = 0.04  # shortest time between two updates of the page
SAVE_SECONDS = 3.0  # between two saves of an unfinished answer; a crash loses at most this much
MAX_TOKENS = 1024  # default limit of an answer


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of a conversation, saved with it."""

    model: str
    system: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # tokens; 0 means all
    repetition_penalty: float = 1.0
    max_tokens: int = MAX_TOKENS  # of an answer; fewer if the context has less room
    seed: int | None = None

    @classmethod
    def from_model(cls, served: Served) -> Settings:
        """The default settings of a model."""
        names = ("temperature", "top_p", "top_k", "repetition_penalty")
        limit = min(MAX_TOKENS, max(served.context // 2, 1))
        return cls(model=served.name, max_tokens=limit, **{name: getattr(served.defaults, name) for name in names})

    @classmethod
    def from_saved(cls, conversation: Conversation, service: Service) -> Settings:
        """The settings saved with a conversation. A model that is no longer served is replaced by the first one."""
        name = conversation.settings.get("model")
        served = service.model(name if name in service.models else None)
        known = {field.name for field in fields(cls)} & conversation.settings.keys()
        saved: dict[str, Any] = {field: conversation.settings[field] for field in known}
        saved["model"] = served.name
        return replace(cls.from_model(served), **saved)

    def body(self, messages: list[dict], max_tokens: int) -> dict[str, Any]:
        """The body of a chat completion request."""
        body = {**asdict(self), "messages": self.with_system(messages), "max_tokens": max_tokens}
        return {name: value for name, value in body.items() if name != "system" and value is not None}

    def with_system(self, messages: list[dict]) -> list[dict]:
        return ([{"role": "system", "content": self.system}] if self.system else []) + messages


@dataclass(frozen=True)
class Frame:
    """The state of a conversation while its answer is generated."""

    conversation: Conversation
    used: int  # tokens of the context in use
    speed: float = 0.0  # tokens per second since the first token; 0 before the second
    end: str | None = None  # the finish reason; None while the answer is not finished


def owner_of(key: Key) -> str:
    """The owner of a key's conversations. The prefix keeps a key named "local" apart from the local user."""
    return "local" if key is ANONYMOUS else f"key:{key.name}"


def new_conversation(settings: Settings) -> Conversation:
    """A new, empty conversation, not yet saved."""
    return Conversation(uuid.uuid4().hex, "", time.time(), [], asdict(settings))


def title_of(question: str) -> str:
    """The start of a question, on one line."""
    line = " ".join(question.split())
    return line if len(line) <= TITLE_LEN else line[: TITLE_LEN - 1].rstrip() + "…"


def add_question(
    conversation: Conversation, question: str, settings: Settings, *, at: int | None = None
) -> Conversation:
    """The conversation cut at message `at`, with `question` as its new last message; None appends at the end."""
    if not question.strip():
        raise RequestError(tr("the question is empty; write a question first"))
    if at is not None:
        _question_at(conversation, at)
    return replace(
        conversation,
        title=conversation.title or title_of(question),
        messages=[*conversation.messages[:at], {"role": "user", "content": question}],
        settings=asdict(settings),
    )


def retry(conversation: Conversation, settings: Settings, at: int) -> Conversation:
    """The conversation cut after the question at message `at`, so that it gets a new answer."""
    return add_question(conversation, _question_at(conversation, at), settings, at=at)


def _question_at(conversation: Conversation, at: int) -> str:
    if not 0 <= at < len(conversation.messages) or conversation.messages[at]["role"] != "user":
        raise RequestError(tr("this question is no longer in the conversation; load the page again"))
    return conversation.messages[at]["content"]


def num_tokens(served: Served, settings: Settings, messages: list[dict]) -> int:
    """Number of prompt tokens of a conversation, without its next answer."""
    prompt = settings.with_system(messages)
    if not prompt:
        return 0
    return len(ChatRun(served.tokenizer, [from_openai(message) for message in prompt]).prompt_ids)


class ChatBackend:
    """Generates the answers of the chat page, at most one at a time for each open page."""

    def __init__(self, service: Service) -> None:
        assert service.store is not None, "the pages save conversations, so the server needs a store"
        self.service, self.store = service, service.store
        self._answers: dict[tuple[str, str], asyncio.Task] = {}

    async def answer(self, key: Key, page: str, conversation: Conversation) -> AsyncGenerator[Frame, None]:
        """Yield the conversation while its answer is generated; `stop(key, page)` ends it. RequestError if refused.

        Leaving early, like `stop`, aborts the engine's request; the text so far is saved.
        """
        queue: asyncio.Queue[Frame | Exception | None] = asyncio.Queue()

        # A task of its own keeps reading, so that a slow page does not delay the saves.
        async def follow() -> None:
            try:
                async with aclosing(self._frames(key, conversation)) as frames:
                    async for frame in frames:
                        queue.put_nowait(frame)
            except Exception as error:
                queue.put_nowait(error)
            finally:
                queue.put_nowait(None)

        slot = (owner_of(key), page)
        self.stop(key, page)
        task = self._answers[slot] = asyncio.ensure_future(follow())
        items: list[Frame | Exception | None] = []
        try:
            while None not in items:
                items = [await queue.get()]
                while not queue.empty():
                    items.append(queue.get_nowait())
                if frames := [item for item in items if isinstance(item, Frame)]:  # only the newest is worth drawing
                    yield frames[-1]
                for item in items:
                    if isinstance(item, Exception):
                        raise item
                await asyncio.sleep(FRAME_SECONDS)
        finally:
            if self._answers.get(slot) is task:
                del self._answers[slot]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def stop(self, key: Key, page: str) -> None:
        """Stop the answer that is being generated for a page, if there is one."""
        if task := self._answers.get((owner_of(key), page)):
            task.cancel()

    def is_answering(self, key: Key, page: str) -> bool:
        """Whether an answer is being generated for a page."""
        return (owner_of(key), page) in self._answers

    async def _frames(self, key: Key, conversation: Conversation) -> AsyncGenerator[Frame, None]:
        settings = Settings(**conversation.settings)
        served = self.service.model(settings.model)
        used = await asyncio.to_thread(num_tokens, served, settings, conversation.messages)
        room = max(min(settings.max_tokens, served.context - used), 1)
        request = parse(json.dumps(settings.body(conversation.messages, room)).encode(), ChatCompletionRequest)
        await check_prompt(self.service.guard, "\n".join(m.text for m in request.messages if m.role != "assistant"))
        job = await asyncio.to_thread(prepare_chat, request, served)
        with self.service.admission.admit(key, job.num_tokens):
            self._save(key, conversation, is_new=True)
            yield Frame(conversation, used)
            text, begun, saved_at = "", 0.0, time.monotonic()
            try:
                async with aclosing(run(job, self.service, key.name)) as pieces:
                    async for piece in pieces:
                        text += piece["delta"].get("content") or ""
                        usage, begun = job.usage(), begun or time.monotonic()
                        used, speed = usage["total_tokens"], _speed(usage["completion_tokens"], begun)
                        yield Frame(_with_answer(conversation, text), used, speed, piece["finish_reason"])
                        if time.monotonic() - saved_at > SAVE_SECONDS:
                            self._save(key, _with_answer(conversation, text))
                            saved_at = time.monotonic()
            finally:
                self.service.record_usage(key, job.usage(), served.name)
                self._save(key, _with_answer(conversation, text))

    def _save(self, key: Key, conversation: Conversation, *, is_new: bool = False) -> None:
        """Save with the title in the store, which may have changed since; a deleted conversation stays deleted."""
        owner = owner_of(key)
        stored = self.store.conversation(owner, conversation.id)
        if stored is not None or is_new:
            title = stored.title if stored else conversation.title
            self.store.save_conversation(owner, replace(conversation, title=title, updated=time.time()))


def open_conversation(store: Store, key: Key, id: str | None, settings: Settings) -> Conversation:
    """Conversation `id` of the key's owner, or a new one if the owner has none with this id."""
    stored = store.conversation(owner_of(key), id) if id else None
    return stored or new_conversation(settings)


def _with_answer(conversation: Conversation, text: str) -> Conversation:
    if not text:
        return conversation
    return replace(conversation, messages=[*conversation.messages, {"role": "assistant", "content": text}])


def _speed(num_tokens: int, begun: float) -> float:
    """Tokens per second; the first token came at `begun`."""
    seconds = time.monotonic() - begun
    return (num_tokens - 1) / seconds if num_tokens > 1 and seconds > 0 else 0.0
