"""A question on the page goes the way of a request over HTTP, and what was said is kept however it ends."""

import asyncio
from contextlib import aclosing
from dataclasses import asdict, replace

import pytest

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import RequestError
from qianwen.serve.admission import Admission, Limits
from qianwen.serve.bridge import Bridge
from qianwen.serve.gate import ANONYMOUS
from qianwen.serve.service import Served, Service
from qianwen.serve.store import Key, Store
from qianwen.serve.ui.conversation import (
    MAX_TOKENS,
    TITLE_LEN,
    Desk,
    Settings,
    asked,
    asked_again,
    new_conversation,
    num_tokens,
    open_conversation,
    owner_of,
    title_of,
)


@pytest.fixture
def desk(model, tokenizer, tmp_path):
    engine = LLMEngine(model, tokenizer, EngineConfig(num_blocks=256))
    served = Served("tiny", Bridge(engine), tokenizer, engine.max_model_len, SamplingParams(temperature=0))
    store = Store(tmp_path / "s.sqlite")
    service = Service([served], Admission(Limits(), store), store)
    yield Desk(service)
    service.close()


def settings_of(desk: Desk, **changes) -> Settings:
    return replace(Settings.of(desk.service.model(None)), **changes)


def frames(desk: Desk, conversation, key: Key = ANONYMOUS, stop_after: int | None = None):
    async def run():
        seen = []
        async with aclosing(desk.answer(key, "page", conversation)) as answer:
            async for frame in answer:
                seen.append(frame)
                if stop_after is not None and len(seen) > stop_after:
                    desk.stop(key, "page")
        return seen

    return asyncio.run(run())


def ask(desk: Desk, question: str = "hello", **changes):
    settings = settings_of(desk, max_tokens=8, **changes)
    return asked(new_conversation(settings), question, settings)


def test_an_answer_is_admitted_measured_and_kept(desk):
    seen = frames(desk, ask(desk))
    last = seen[-1].conversation
    assert [m["role"] for m in last.messages] == ["user", "assistant"] and last.title == "hello"
    assert seen[-1].end in ("stop", "length") and seen[-1].used > num_tokens(
        desk.service.model(None), settings_of(desk), last.messages[:1]
    )
    kept = desk.store.conversation("local", last.id)
    assert (
        kept is not None and kept.messages == last.messages and kept.settings == asdict(settings_of(desk, max_tokens=8))
    )
    assert 'qianwen_completion_tokens_total{model="tiny"} 8' in desk.service.metrics.text() or seen[-1].end == "stop"
    assert desk.service.admission.requests == 0


def test_temperature_zero_repeats_itself_and_the_system_prompt_counts(desk):
    plain = frames(desk, ask(desk, temperature=0.0))[-1]
    again = frames(desk, ask(desk, temperature=0.0))[-1]
    other = frames(desk, ask(desk, temperature=0.0, system="You are a pirate."))[-1]
    assert plain.conversation.messages == again.conversation.messages
    assert other.used != plain.used
    assert other.conversation.messages[0] == plain.conversation.messages[0], "the system prompt is a setting"


def test_stopping_keeps_what_was_written_and_frees_the_engine(desk):
    conversation = ask(desk)
    conversation.settings["max_tokens"] = 1500
    seen = frames(desk, conversation, stop_after=1)
    kept = desk.store.conversation("local", conversation.id)
    assert kept is not None and len(kept.messages[-1]["content"]) < 1500
    assert desk.service.admission.requests == 0
    assert seen[-1].end is None or seen[-1].end == "stop"

    async def idle() -> int:
        return await desk.service.model(None).bridge.call(
            lambda: len(desk.service.model(None).bridge.engine.scheduler.running)
        )

    assert asyncio.run(idle()) == 0


def test_a_refused_question_is_not_kept(desk):
    desk.service.admission.draining = True
    conversation = ask(desk)
    with pytest.raises(RequestError, match="shutting down"):
        frames(desk, conversation)
    assert desk.store.conversation("local", conversation.id) is None


def test_quotas_and_the_guard_bind_pages_too(desk):
    desk.store.add_key("ann", tokens_per_day=1)
    ann = Key("ann", tokens_per_day=1)
    frames(desk, ask(desk), ann)
    assert desk.store.tokens_today("ann") > 1
    with pytest.raises(RequestError, match="tokens of today"):
        frames(desk, ask(desk), ann)
    desk.service.guard = lambda text: "no bombs" if "bomb" in text else None
    with pytest.raises(RequestError, match="no bombs"):
        frames(desk, ask(desk, "a bomb"))


def test_what_does_not_fit_is_refused_and_the_last_room_is_used(desk):
    with pytest.raises(RequestError, match="context"):
        frames(desk, ask(desk, "x" * 3000))
    nearly = ask(desk, "x" * 1980)
    nearly.settings["max_tokens"] = 1500
    assert frames(desk, nearly)[-1].used <= desk.service.model(None).context


@pytest.mark.parametrize("wrong", [{"temperature": 9.0}, {"top_p": "x"}, {"model": "none"}, {"max_tokens": 10**12}])
def test_settings_of_a_dishonest_page_are_refused_or_limited(desk, wrong):
    conversation = ask(desk)
    conversation.settings.update(wrong)
    if "max_tokens" in wrong:
        conversation.messages[0]["content"] = "\ud800"
    with pytest.raises(RequestError):
        frames(desk, conversation)


def test_a_conversation_deleted_or_renamed_meanwhile_stays_so(desk):
    def change(effect):
        async def run():
            conversation = ask(desk)
            first = True
            async for _ in desk.answer(ANONYMOUS, "page", conversation):
                if first:
                    effect(conversation.id)
                first = False
            return desk.store.conversation("local", conversation.id)

        return asyncio.run(run())

    assert change(lambda id: desk.store.delete_conversation("local", id)) is None
    renamed = change(lambda id: desk.store.rename_conversation("local", id, "mine"))
    assert renamed is not None and renamed.title == "mine" and len(renamed.messages) == 2


def test_editing_and_asking_again_cut_what_came_after(desk):
    settings = settings_of(desk)
    talk = replace(new_conversation(settings), title="t")
    talk.messages[:] = [
        {"role": role, "content": text}
        for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ]
    assert [m["content"] for m in asked(talk, "x", settings, at=2).messages] == ["a", "b", "x"]
    assert [m["content"] for m in asked(talk, "x", settings).messages] == ["a", "b", "c", "d", "x"]
    assert [m["content"] for m in asked_again(talk, settings, 0).messages] == ["a"]
    for place in (-1, 1, 4):
        with pytest.raises(RequestError):
            asked_again(talk, settings, place)
    with pytest.raises(RequestError):
        asked(talk, "  ", settings)
    assert len(talk.messages) == 4


def test_nobody_opens_the_conversation_of_another(desk):
    mine = frames(desk, ask(desk))[-1].conversation
    settings = settings_of(desk)
    assert open_conversation(desk.store, ANONYMOUS, mine.id, settings).id == mine.id
    for other in (Key("local"), Key("ann")):
        assert owner_of(other) != "local"
        assert open_conversation(desk.store, other, mine.id, settings).messages == []


def test_settings_come_back_and_a_model_that_is_gone_gives_way(desk):
    kept = ask(desk, temperature=0.3, system="S")
    assert Settings.kept(kept, desk.service).temperature == 0.3
    kept.settings.update(model="gone", unknown=1)
    assert Settings.kept(kept, desk.service) == settings_of(desk, max_tokens=8, temperature=0.3, system="S")
    assert settings_of(desk).max_tokens <= MAX_TOKENS


def test_titles_are_one_short_line():
    assert title_of(" a\n b ") == "a b"
    assert len(title_of("x" * 500)) == TITLE_LEN


def test_a_long_answer_is_saved_while_it_grows(desk, monkeypatch):
    monkeypatch.setattr("qianwen.serve.ui.conversation.KEEP_SECONDS", 0.0)
    conversation = ask(desk)
    conversation.settings["max_tokens"] = 1500

    async def saved_early() -> bool:
        async with aclosing(desk.answer(ANONYMOUS, "page", conversation)) as answer:
            async for frame in answer:
                kept = desk.store.conversation("local", conversation.id)
                if frame.end is None and kept is not None and len(kept.messages) == 2:
                    return True
        return False

    assert asyncio.run(saved_early())
