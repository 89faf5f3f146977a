"""A question on the page is handled like a request over HTTP, and its conversation is saved in every case."""

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
    ChatBackend,
    Settings,
    add_question,
    continue_answer,
    new_conversation,
    num_tokens,
    open_conversation,
    owner_of,
    retry,
    title_of,
)


@pytest.fixture
def backend(model, tokenizer, tmp_path):
    engine = LLMEngine(model, tokenizer, EngineConfig(num_blocks=256))
    served = Served("tiny", Bridge(engine), tokenizer, engine.max_model_len, SamplingParams(temperature=0))
    store = Store(tmp_path / "s.sqlite")
    service = Service([served], Admission(Limits(), store), store)
    yield ChatBackend(service)
    service.close()


def settings_of(backend: ChatBackend, **changes) -> Settings:
    return replace(Settings.from_model(backend.service.model(None)), **changes)


def frames(backend: ChatBackend, conversation, key: Key = ANONYMOUS, stop_after: int | None = None):
    async def run():
        seen = []
        async with aclosing(backend.answer(key, "page", conversation)) as answer:
            async for frame in answer:
                seen.append(frame)
                if stop_after is not None and len(seen) > stop_after:
                    backend.stop(key, "page")
        return seen

    return asyncio.run(run())


def ask(backend: ChatBackend, question: str = "hello", **changes):
    settings = settings_of(backend, max_tokens=8, **changes)
    return add_question(new_conversation(settings), question, settings)


def test_an_answer_is_admitted_counted_and_saved(backend):
    seen = frames(backend, ask(backend))
    last = seen[-1].conversation
    assert [m["role"] for m in last.messages] == ["user", "assistant"] and last.title == "hello"
    assert seen[-1].end in ("stop", "length") and seen[-1].used > num_tokens(
        backend.service.model(None), settings_of(backend), last.messages[:1]
    )
    saved = backend.store.conversation("local", last.id)
    assert (
        saved is not None
        and saved.messages == last.messages
        and saved.settings == asdict(settings_of(backend, max_tokens=8))
    )
    assert 'qianwen_completion_tokens_total{model="tiny"} 8' in backend.service.metrics.text() or seen[-1].end == "stop"
    assert backend.service.admission.requests == 0


def test_temperature_zero_is_deterministic_and_the_system_prompt_is_used(backend):
    plain = frames(backend, ask(backend, temperature=0.0))[-1]
    again = frames(backend, ask(backend, temperature=0.0))[-1]
    other = frames(backend, ask(backend, temperature=0.0, system="You are a pirate."))[-1]
    assert plain.conversation.messages == again.conversation.messages
    assert other.used != plain.used
    assert other.conversation.messages[0] == plain.conversation.messages[0], "the system prompt is a setting"


def test_stopping_saves_the_text_so_far_and_frees_the_engine(backend):
    conversation = ask(backend)
    conversation.settings["max_tokens"] = 1500
    seen = frames(backend, conversation, stop_after=1)
    saved = backend.store.conversation("local", conversation.id)
    assert saved is not None and len(saved.messages[-1]["content"]) < 1500
    assert backend.service.admission.requests == 0
    assert seen[-1].end is None or seen[-1].end == "stop"

    async def idle() -> int:
        return await backend.service.model(None).bridge.call(
            lambda: len(backend.service.model(None).bridge.engine.scheduler.running)
        )

    assert asyncio.run(idle()) == 0


def test_a_refused_question_is_not_saved(backend):
    backend.service.admission.draining = True
    conversation = ask(backend)
    with pytest.raises(RequestError, match="shutting down"):
        frames(backend, conversation)
    assert backend.store.conversation("local", conversation.id) is None


def test_quotas_and_the_guard_apply_to_pages(backend):
    backend.store.add_key("ann", tokens_per_day=1)
    ann = Key("ann", tokens_per_day=1)
    frames(backend, ask(backend), ann)
    assert backend.store.tokens_today("ann") > 1
    with pytest.raises(RequestError, match="quota of 1 tokens per day"):
        frames(backend, ask(backend), ann)
    backend.service.guard = lambda text: "no bombs" if "bomb" in text else None
    with pytest.raises(RequestError, match="no bombs"):
        frames(backend, ask(backend, "a bomb"))


def test_a_conversation_too_long_is_refused_and_the_rest_of_the_context_is_used(backend):
    with pytest.raises(RequestError, match="context"):
        frames(backend, ask(backend, "x" * 3000))
    nearly = ask(backend, "x" * 1980)
    nearly.settings["max_tokens"] = 1500
    assert frames(backend, nearly)[-1].used <= backend.service.model(None).context


@pytest.mark.parametrize("wrong", [{"temperature": 9.0}, {"top_p": "x"}, {"model": "none"}, {"max_tokens": 10**12}])
def test_invalid_settings_are_refused_or_limited(backend, wrong):
    conversation = ask(backend)
    conversation.settings.update(wrong)
    if "max_tokens" in wrong:
        conversation.messages[0]["content"] = "\ud800"
    with pytest.raises(RequestError):
        frames(backend, conversation)


def test_a_conversation_deleted_or_renamed_during_an_answer_stays_so(backend):
    def change(effect):
        async def run():
            conversation = ask(backend)
            first = True
            async for _ in backend.answer(ANONYMOUS, "page", conversation):
                if first:
                    effect(conversation.id)
                first = False
            return backend.store.conversation("local", conversation.id)

        return asyncio.run(run())

    assert change(lambda id: backend.store.delete_conversation("local", id)) is None
    renamed = change(lambda id: backend.store.rename_conversation("local", id, "mine"))
    assert renamed is not None and renamed.title == "mine" and len(renamed.messages) == 2


def test_editing_and_retrying_remove_later_messages(backend):
    settings = settings_of(backend)
    talk = replace(new_conversation(settings), title="t")
    talk.messages[:] = [
        {"role": role, "content": text}
        for role, text in [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    ]
    assert [m["content"] for m in add_question(talk, "x", settings, at=2).messages] == ["a", "b", "x"]
    assert [m["content"] for m in add_question(talk, "x", settings).messages] == ["a", "b", "c", "d", "x"]
    assert [m["content"] for m in retry(talk, settings, 0).messages] == ["a"]
    for place in (-1, 1, 4):
        with pytest.raises(RequestError):
            retry(talk, settings, place)
    with pytest.raises(RequestError):
        add_question(talk, "  ", settings)
    assert len(talk.messages) == 4


def test_keys_cannot_open_conversations_of_other_owners(backend):
    mine = frames(backend, ask(backend))[-1].conversation
    settings = settings_of(backend)
    assert open_conversation(backend.store, ANONYMOUS, mine.id, settings).id == mine.id
    for other in (Key("local"), Key("ann")):
        assert owner_of(other) != "local"
        assert open_conversation(backend.store, other, mine.id, settings).messages == []


def test_settings_are_restored_and_a_missing_model_is_replaced(backend):
    saved = ask(backend, temperature=0.3, system="S")
    assert Settings.from_saved(saved, backend.service).temperature == 0.3
    saved.settings.update(model="gone", unknown=1)
    assert Settings.from_saved(saved, backend.service) == settings_of(
        backend, max_tokens=8, temperature=0.3, system="S"
    )
    assert settings_of(backend).max_tokens <= MAX_TOKENS


def test_titles_are_one_short_line():
    assert title_of(" a\n b ") == "a b"
    assert len(title_of("x" * 500)) == TITLE_LEN


def test_a_long_answer_is_saved_while_it_is_generated(backend, monkeypatch):
    monkeypatch.setattr("qianwen.serve.ui.conversation.SAVE_SECONDS", 0.0)
    conversation = ask(backend)
    conversation.settings["max_tokens"] = 1500

    async def saved_early() -> bool:
        async with aclosing(backend.answer(ANONYMOUS, "page", conversation)) as answer:
            async for frame in answer:
                saved = backend.store.conversation("local", conversation.id)
                if frame.end is None and saved is not None and len(saved.messages) == 2:
                    return True
        return False

    assert asyncio.run(saved_early())


def stopped_answer(backend: ChatBackend, after: int = 3):
    """A conversation whose answer was stopped, as it is saved."""
    conversation = ask(backend)
    conversation.settings["max_tokens"] = 1500
    frames(backend, conversation, stop_after=after)
    saved = backend.store.conversation("local", conversation.id)
    assert saved is not None
    return saved


def test_a_stopped_answer_is_saved_as_stopped_and_can_go_on(backend):
    saved = stopped_answer(backend)
    begun = saved.messages[-1]
    assert begun["end"] == "stopped" and begun["model"] == "tiny" and begun["content"]
    more = frames(backend, continue_answer(saved, settings_of(backend, max_tokens=4)))[-1].conversation
    assert [m["role"] for m in more.messages] == ["user", "assistant"] and more.id == saved.id
    assert more.messages[-1]["content"].startswith(begun["content"]) and more.messages[-1] != begun
    assert more.messages[-1]["end"] == "length"


def test_an_answer_goes_on_where_one_answer_without_a_stop_would(backend):
    """Greedy decoding of prompt and prefix gives the same tokens as in one go, where the text has one encoding."""
    at_once = frames(backend, ask(backend, temperature=0.0))[-1].conversation
    short = ask(backend, temperature=0.0)
    short.settings["max_tokens"] = 3
    half = frames(backend, short)[-1].conversation
    rest = frames(backend, continue_answer(half, settings_of(backend, max_tokens=5, temperature=0.0)))[-1].conversation
    if "\ufffd" not in half.messages[-1]["content"]:  # bytes that are not text cannot be encoded again
        assert rest.messages[-1]["content"] == at_once.messages[-1]["content"]


@pytest.mark.parametrize("end", ["stop", "content_filter", "", "tool_calls", None])
def test_a_complete_or_refused_answer_cannot_go_on(backend, end):
    saved = stopped_answer(backend)
    saved.messages[-1]["end"] = end
    with pytest.raises(RequestError, match="cannot be continued"):
        continue_answer(saved, settings_of(backend))


def test_without_text_there_is_nothing_to_go_on_with(backend):
    saved = stopped_answer(backend)
    for messages in ([], saved.messages[:1], [saved.messages[0], {**saved.messages[1], "content": ""}]):
        with pytest.raises(RequestError, match="cannot be continued"):
            continue_answer(replace(saved, messages=messages), settings_of(backend))


def test_an_answer_that_a_crash_cuts_off_is_already_saved_as_interrupted(backend, monkeypatch):
    monkeypatch.setattr("qianwen.serve.ui.conversation.SAVE_SECONDS", 0.0)
    conversation = ask(backend)
    conversation.settings["max_tokens"] = 1500

    async def ends() -> set[str]:
        seen = set()
        async with aclosing(backend.answer(ANONYMOUS, "page", conversation)) as answer:
            async for _ in answer:
                saved = backend.store.conversation("local", conversation.id)
                seen |= {message["end"] for message in saved.messages[1:]} if saved else set()
                assert backend.is_live(conversation.id)
                if seen:
                    break
        return seen

    assert asyncio.run(ends()) == {"interrupted"}
    assert not backend.is_live(conversation.id)


def test_an_engine_that_fails_leaves_an_interrupted_answer(backend):
    conversation = ask(backend)
    conversation.settings["max_tokens"] = 1500

    async def fail() -> None:
        async for frame in backend.answer(ANONYMOUS, "page", conversation):
            if len(frame.conversation.messages) == 2:
                backend.service.bridges[0].abort_all(RequestError("gone", status=503))

    with pytest.raises(RequestError, match="gone"):
        asyncio.run(fail())
    saved = backend.store.conversation("local", conversation.id)
    assert saved is not None and saved.messages[-1]["end"] == "interrupted"


def test_the_guard_judges_a_continued_answer_from_its_beginning(backend):
    saved = stopped_answer(backend)
    start = saved.messages[-1]["content"][:3]
    seen = []
    backend.service.guard = lambda text: seen.append(text)
    frames(backend, continue_answer(saved, settings_of(backend, max_tokens=4)))
    assert len(seen) > 1 and all(text.startswith(start) for text in seen[1:]), "the first is the question"


@pytest.fixture
def two(model, tokenizer, tmp_path):
    """Two served models, which compared answers come from."""
    engines = [LLMEngine(model, tokenizer, EngineConfig(num_blocks=64)) for _ in range(2)]
    models = [
        Served(name, Bridge(engine), tokenizer, engine.max_model_len, SamplingParams(temperature=0))
        for name, engine in zip(("tiny", "small"), engines, strict=True)
    ]
    store = Store(tmp_path / "two.sqlite")
    service = Service(models, Admission(Limits(), store), store)
    yield ChatBackend(service)
    service.close()


@pytest.mark.parametrize(
    ("first", "second"), [("length", "length"), ("stop", "length"), ("stopped", "stop"), ("stopped", "interrupted")]
)
def test_compared_answers_go_on_where_they_ended_early(two, first, second):
    settings = settings_of(two, max_tokens=4, compare="small")
    both = {"role": "assistant", "content": "ab", "end": first, "model": "tiny"}
    both["other"] = {"role": "assistant", "content": "cd", "end": second, "model": "small"}
    asked = add_question(new_conversation(settings), "hello", settings)
    saved = replace(asked, messages=[*asked.messages, both])
    last = frames(two, continue_answer(saved, settings))[-1].conversation.messages[-1]
    for end, before, after in ((first, both, last), (second, both["other"], last["other"])):
        if end == "stop":
            assert after["content"] == before["content"] and after["end"] == "stop"
        else:
            assert after["content"].startswith(before["content"]) and len(after["content"]) > 2
            assert after["end"] in ("stop", "length")
    assert "other" not in last["other"]


def test_a_side_without_a_token_gets_its_answer(two):
    settings = settings_of(two, max_tokens=4, compare="small")
    both = {"role": "assistant", "content": "", "end": "stopped", "model": "tiny"}
    both["other"] = {"role": "assistant", "content": "cd", "end": "stopped", "model": "small"}
    asked = add_question(new_conversation(settings), "hello", settings)
    last = frames(two, continue_answer(replace(asked, messages=[*asked.messages, both]), settings))[-1]
    answer = last.conversation.messages[-1]
    assert answer["content"] and answer["other"]["content"].startswith("cd")


def test_without_the_compared_model_only_the_first_answer_goes_on(two):
    settings = settings_of(two, max_tokens=4)
    both = {"role": "assistant", "content": "ab", "end": "stop", "model": "tiny"}
    both["other"] = {"role": "assistant", "content": "cd", "end": "length", "model": "small"}
    asked = add_question(new_conversation(settings), "hello", settings)
    saved = replace(asked, messages=[*asked.messages, both])
    with pytest.raises(RequestError, match="cannot be continued"):
        frames(two, continue_answer(saved, settings))
    both["end"] = "length"
    answer = frames(two, continue_answer(saved, settings))[-1].conversation.messages[-1]
    assert answer["content"].startswith("ab") and answer["other"] == both["other"]
