"""One question on the chat page, from the text box to the store.

It becomes a request as a client would send it to `/v1/chat/completions`, with the same steps: validation, guard,
admission with quotas, bridge, metrics, usage of the key. In addition the conversation is saved: when its question is
admitted, every second, and when the answer ends, also after an error. `turns.py` has the form of the saved messages.

This module does not use Gradio.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import ExitStack, aclosing, suppress
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from qianwen.chat.messages import Message, from_openai
from qianwen.chat.render import ChatFormat
from qianwen.engine.chat_run import ChatRun
from qianwen.runtime.errors import ConfigError, RequestError
from qianwen.runtime.translation import tr
from qianwen.serve.chat_routes import prepare_chat, run
from qianwen.serve.gate import ANONYMOUS
from qianwen.serve.guard import check_prompt
from qianwen.serve.protocol import ChatCompletionRequest, parse
from qianwen.serve.service import Served, Service
from qianwen.serve.store import Conversation, Key, Store
from qianwen.serve.ui.sides import Side, merged
from qianwen.serve.ui.turns import (
    INTERRUPTED,
    MARKED,
    STOPPED,
    Turn,
    answer_turn,
    both,
    can_continue,
    is_unfinished,
    split_unfinished,
    to_wire,
    view,
)

TITLE_LEN = 60  # characters
FRAME_SECONDS = 0.04  # shortest time between two updates of the page
SAVE_SECONDS = 1.0  # between two saves of an unfinished answer; a crash loses at most this much
MAX_TOKENS = 1024  # default limit of an answer
COMPLETE = "this answer is complete or empty, so it cannot be continued; ask again instead"


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
    thinking: bool = True  # let a model that can think do so before it answers
    compare: str = ""  # a second model that answers the same questions

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
        if saved.get("compare") not in service.models:
            saved["compare"] = ""
        return replace(cls.from_model(served), **saved)

    def body(self, turns: list[Turn], max_tokens: int) -> dict[str, Any]:
        """The body of a chat completion request."""
        body = {**asdict(self), "messages": to_wire(turns, self.system), "max_tokens": max_tokens}
        return {name: body[name] for name in body.keys() - {"system", "thinking", "compare"} if body[name] is not None}


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
    conversation: Conversation,
    question: str,
    settings: Settings,
    *,
    at: int | None = None,
    files: Sequence[dict[str, str]] = (),
) -> Conversation:
    """The conversation cut at message `at`, with `question` as its new last message; None appends at the end."""
    if not question.strip():
        raise RequestError(tr("the question is empty; write a question first"))
    turn: Turn = {"role": "user", "content": question}
    if files:
        turn["files"] = list(files)
    if at is not None:
        question_at(conversation, at)
    return replace(
        conversation,
        title=conversation.title or title_of(question),
        messages=[*conversation.messages[:at], turn],
        settings=asdict(settings),
    )


def retry(conversation: Conversation, settings: Settings, at: int) -> Conversation:
    """The conversation cut after the question at message `at`, so that it gets a new answer."""
    turn = question_at(conversation, at)
    return add_question(conversation, turn["content"], settings, at=at, files=turn.get("files", ()))


def question_at(conversation: Conversation, at: int) -> Turn:
    """The question at message `at`. RequestError if there is none, because another window changed the conversation."""
    if not 0 <= at < len(conversation.messages) or conversation.messages[at]["role"] != "user":
        raise RequestError(tr("this question is no longer in the conversation; load the page again"))
    return conversation.messages[at]


def continue_answer(conversation: Conversation, settings: Settings) -> Conversation:
    """The conversation, ready to go on with its last answer. RequestError if that answer is complete."""
    last = conversation.messages[-1] if conversation.messages else {}
    if not can_continue(last):
        raise RequestError(tr(COMPLETE))
    return replace(conversation, settings=asdict(settings))


def can_think(served: Served) -> bool:
    """Whether the thinking of the model can be switched: its chat template has a variable for it."""
    try:
        template = ChatFormat(served.tokenizer).template
    except ConfigError:  # a model that continues text has no template
        return False
    return template is not None and template.switch is not None


def num_tokens(served: Served, settings: Settings, turns: list[Turn], begun: Message | None = None) -> int:
    """Number of prompt tokens of a conversation, without its next answer except what is `begun` of it."""
    prompt = to_wire(turns, settings.system)
    if not prompt:
        return 0
    chat = ChatRun(served.tokenizer, [from_openai(message) for message in prompt])
    if begun is not None:
        chat.begin_with(begun)
    return len(chat.prompt_ids)


class ChatBackend:
    """Generates the answers of the chat page, at most one at a time for each open page."""

    def __init__(self, service: Service) -> None:
        assert service.store is not None, "the pages save conversations, so the server needs a store"
        self.service, self.store = service, service.store
        self._answers: dict[tuple[str, str], asyncio.Task] = {}
        self._live: set[str] = set()  # ids of the conversations that get an answer now

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

    def is_live(self, id: str) -> bool:
        """Whether an answer of conversation `id` is being generated, for any page."""
        return id in self._live

    async def _frames(self, key: Key, conversation: Conversation) -> AsyncGenerator[Frame, None]:
        settings = Settings(**conversation.settings)
        turns, begun = split_unfinished(conversation.messages)
        complete, sides = await self._sides(turns, begun, settings)

        def with_answer(end: str) -> Conversation:
            answers = complete | {side.number: side.turn(end) for side in sides}
            first, other = answers.get(0), answers.get(1)
            empty = answer_turn("", "", end, settings.model)
            answer = (first or empty) | {"other": other} if other else first
            return replace(conversation, messages=[*turns, *([answer] if answer else [])])

        with ExitStack() as stack:
            for side in sides:
                stack.enter_context(self.service.admission.admit(key, side.job.num_tokens))
            self._live.add(conversation.id)
            self._save(key, with_answer(INTERRUPTED), is_new=True)
            yield Frame(with_answer(""), sides[0].used)
            saved_at, end = 0.0, INTERRUPTED
            try:
                async with aclosing(merged([run(side.job, self.service, key.name) for side in sides])) as pieces:
                    async for number, piece in pieces:
                        sides[number].feed(piece)
                        reason = sides[0].end if all(side.end for side in sides) else None
                        yield Frame(with_answer(""), sides[0].used, sides[0].speed, reason)
                        if time.monotonic() - saved_at > SAVE_SECONDS:
                            self._save(key, with_answer(INTERRUPTED))
                            saved_at = time.monotonic()
            except (asyncio.CancelledError, GeneratorExit):  # by the user, or because the page was closed
                end = STOPPED
                raise
            finally:
                self._live.discard(conversation.id)
                for side in sides:
                    self.service.record_usage(key, side.job.usage(), side.job.served.name)
                self._save(key, with_answer(end))

    async def _sides(
        self, turns: list[Turn], begun: Turn | None, settings: Settings
    ) -> tuple[dict[int, Turn | None], list[Side]]:
        """The answers that are complete already, by number, and those that are to be generated."""
        models = [settings.model] + ([settings.compare] if settings.compare else [])
        answers: list[Turn] = [{} for _ in models] if begun is None else both(begun)
        # an answer without its end token goes on; one without a single token begins
        complete: dict[int, Turn | None] = {
            number: answer
            for number, answer in enumerate(answers)
            if number >= len(models) or (answer and answer.get("end") not in MARKED)
        }
        if len(complete) == len(answers):
            raise RequestError(tr(COMPLETE))
        sides = [
            await self._prepared(number, view(turns, number), answer, settings, models[number])
            for number, answer in enumerate(answers)
            if number not in complete
        ]
        return complete, sides

    async def _prepared(self, number: int, turns: list[Turn], begun: Turn, settings: Settings, name: str) -> Side:
        """The answer of one model to the last question, or the rest of the answer `begun`, ready to run."""
        served = self.service.model(name)
        start = None
        if is_unfinished(begun):
            start = Message("assistant", begun["content"], reasoning_content=begun.get("reasoning_content", ""))
        used = await asyncio.to_thread(num_tokens, served, settings, turns, start)
        room = max(min(settings.max_tokens, served.context - used), 1)
        body = settings.body(turns, room) | {"model": served.name}
        thinking = settings.thinking if start is None else bool(start.reasoning_content)
        if can_think(served) and (start is not None or not thinking):
            body["chat_template_kwargs"] = {"enable_thinking": thinking}
        request = parse(json.dumps(body).encode(), ChatCompletionRequest)
        await check_prompt(self.service.guard, "\n".join(m.text for m in request.messages if m.role != "assistant"))
        return Side(number, await asyncio.to_thread(prepare_chat, request, served, start), used, begun)

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
