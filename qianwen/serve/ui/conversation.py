"""One question on the page, from the text box to the store.

It becomes the request that a client would have sent to `/v1/chat/completions` and goes the same way: the same checks,
the guard, admission with its quotas, the bridge, the metrics, the key's account. What the page adds is memory: a
conversation is saved when its question is admitted, every few seconds, and when the answer ends, however it ends.

Nothing here knows Gradio.
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
FRAME_SECONDS = 0.04  # at most so often is a growing answer drawn
KEEP_SECONDS = 3.0  # and so often is it saved: what a crash may cost
MAX_TOKENS = 1024  # of an answer, unless the panel says otherwise


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the panel beside a conversation says; kept with it."""

    model: str
    system: str = ""
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0  # tokens; 0 is all
    repetition_penalty: float = 1.0
    max_tokens: int = MAX_TOKENS  # of an answer; less where the context ends
    seed: int | None = None

    @classmethod
    def of(cls, served: Served) -> Settings:
        """A model's own defaults."""
        names = ("temperature", "top_p", "top_k", "repetition_penalty")
        limit = min(MAX_TOKENS, max(served.context // 2, 1))
        return cls(model=served.name, max_tokens=limit, **{name: getattr(served.defaults, name) for name in names})

    @classmethod
    def kept(cls, conversation: Conversation, service: Service) -> Settings:
        """What was saved with a conversation; a model that is no longer served gives way to the first."""
        name = conversation.settings.get("model")
        served = service.model(name if name in service.models else None)
        known = {field.name for field in fields(cls)} & conversation.settings.keys()
        saved: dict[str, Any] = {field: conversation.settings[field] for field in known}
        saved["model"] = served.name
        return replace(cls.of(served), **saved)

    def body(self, messages: list[dict], max_tokens: int) -> dict[str, Any]:
        """The body of a chat completion."""
        said = {**asdict(self), "messages": self.with_system(messages), "max_tokens": max_tokens}
        return {name: value for name, value in said.items() if name != "system" and value is not None}

    def with_system(self, messages: list[dict]) -> list[dict]:
        return ([{"role": "system", "content": self.system}] if self.system else []) + messages


@dataclass(frozen=True)
class Frame:
    """A conversation at one moment of its answer."""

    conversation: Conversation
    used: int  # tokens of the context
    speed: float = 0.0  # tokens a second since the first; 0 before there are two
    end: str | None = None  # the finish reason, once there is one


def owner_of(key: Key) -> str:
    """Whose conversations a visitor reads. No key can be named so that it is the local user."""
    return "local" if key is ANONYMOUS else f"key:{key.name}"


def new_conversation(settings: Settings) -> Conversation:
    """An empty one, not yet kept."""
    return Conversation(uuid.uuid4().hex, "", time.time(), [], asdict(settings))


def title_of(question: str) -> str:
    """The first words of a question, on one line."""
    line = " ".join(question.split())
    return line if len(line) <= TITLE_LEN else line[: TITLE_LEN - 1].rstrip() + "…"


def asked(conversation: Conversation, question: str, settings: Settings, *, at: int | None = None) -> Conversation:
    """The conversation with `question` as its message number `at` and nothing after it; without `at` at its end."""
    if not question.strip():
        raise RequestError(tr("write a question first"))
    if at is not None:
        _question_at(conversation, at)
    return replace(
        conversation,
        title=conversation.title or title_of(question),
        messages=[*conversation.messages[:at], {"role": "user", "content": question}],
        settings=asdict(settings),
    )


def asked_again(conversation: Conversation, settings: Settings, at: int) -> Conversation:
    """The conversation up to its message number `at`, a question, ready for another answer."""
    return asked(conversation, _question_at(conversation, at), settings, at=at)


def _question_at(conversation: Conversation, at: int) -> str:
    if not 0 <= at < len(conversation.messages) or conversation.messages[at]["role"] != "user":
        raise RequestError(tr("this question is no longer part of the conversation"))
    return conversation.messages[at]["content"]


def num_tokens(served: Served, settings: Settings, messages: list[dict]) -> int:
    """Tokens of the context that a conversation takes before its next answer."""
    whole = settings.with_system(messages)
    if not whole:
        return 0
    return len(ChatRun(served.tokenizer, [from_openai(message) for message in whole]).prompt_ids)


class Desk:
    """Answers to visitors, at most one at a time for each open page."""

    def __init__(self, service: Service) -> None:
        assert service.store is not None, "pages keep conversations, so their server needs a store"
        self.service, self.store = service, service.store
        self._answers: dict[tuple[str, str], asyncio.Task] = {}

    async def answer(self, key: Key, page: str, conversation: Conversation) -> AsyncGenerator[Frame, None]:
        """The conversation with its answer growing; `page` is what `stop` names. Raises RequestError when refused.

        Leaving early, like `stop`, aborts the engine's request; what was written until then is kept.
        """
        arrived: asyncio.Queue[Frame | Exception | None] = asyncio.Queue()

        async def follow() -> None:
            try:
                async with aclosing(self._frames(key, conversation)) as frames:
                    async for frame in frames:
                        arrived.put_nowait(frame)
            except Exception as error:
                arrived.put_nowait(error)
            finally:
                arrived.put_nowait(None)

        place = (owner_of(key), page)
        self.stop(key, page)
        task = self._answers[place] = asyncio.ensure_future(follow())
        items: list[Frame | Exception | None] = []
        try:
            while None not in items:
                items = [await arrived.get()]
                while not arrived.empty():
                    items.append(arrived.get_nowait())
                if frames := [item for item in items if isinstance(item, Frame)]:
                    yield frames[-1]
                for item in items:
                    if isinstance(item, Exception):
                        raise item
                await asyncio.sleep(FRAME_SECONDS)
        finally:
            if self._answers.get(place) is task:
                del self._answers[place]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def stop(self, key: Key, page: str) -> None:
        """End the answer that is growing on a page, if there is one."""
        if task := self._answers.get((owner_of(key), page)):
            task.cancel()

    def is_answering(self, key: Key, page: str) -> bool:
        """Whether an answer is growing on a page."""
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
            self._keep(key, conversation, is_new=True)
            yield Frame(conversation, used)
            text, begun, kept_at = "", 0.0, time.monotonic()
            try:
                async with aclosing(run(job, self.service, key.name)) as pieces:
                    async for piece in pieces:
                        text += piece["delta"].get("content") or ""
                        usage, begun = job.usage(), begun or time.monotonic()
                        used, speed = usage["total_tokens"], _speed(usage["completion_tokens"], begun)
                        yield Frame(_with_answer(conversation, text), used, speed, piece["finish_reason"])
                        if time.monotonic() - kept_at > KEEP_SECONDS:
                            self._keep(key, _with_answer(conversation, text))
                            kept_at = time.monotonic()
            finally:
                self.service.book(key, job.usage(), served.name)
                self._keep(key, _with_answer(conversation, text))

    def _keep(self, key: Key, conversation: Conversation, *, is_new: bool = False) -> None:
        """Save under the title it has by now; what was deleted meanwhile stays deleted."""
        owner = owner_of(key)
        kept = self.store.conversation(owner, conversation.id)
        if kept is not None or is_new:
            title = kept.title if kept else conversation.title
            self.store.save_conversation(owner, replace(conversation, title=title, updated=time.time()))


def open_conversation(store: Store, key: Key, id: str | None, settings: Settings) -> Conversation:
    """The visitor's conversation `id`, or a new one where there is none of theirs."""
    kept = store.conversation(owner_of(key), id) if id else None
    return kept or new_conversation(settings)


def _with_answer(conversation: Conversation, text: str) -> Conversation:
    if not text:
        return conversation
    return replace(conversation, messages=[*conversation.messages, {"role": "assistant", "content": text}])


def _speed(num_tokens: int, begun: float) -> float:
    """Tokens a second, of which the first came at `begun`."""
    seconds = time.monotonic() - begun
    return (num_tokens - 1) / seconds if num_tokens > 1 and seconds > 0 else 0.0
