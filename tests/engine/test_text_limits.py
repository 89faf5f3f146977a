"""Limits of texts: what an engine takes when it is loaded, and what a request may hold."""

from dataclasses import replace

import pytest

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.text_limits import TextLimits, model_limit
from qianwen.model.config import PRESETS
from qianwen.model.long_context import AS_CONFIGURED, LongContext, layer_windows
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import ConfigError, RequestError

from .conftest import tiny_model

NTK, NONE = LongContext(rope="dynamic_ntk"), LongContext(rope="none")
QWEN25 = PRESETS["qwen2.5-0.5b"]  # trained length 32,768, nothing beyond
QWEN_7B = PRESETS["7b"]  # trained length 8,192; its files say dynamic NTK up to 32,768
LLAMA3 = replace(QWEN25, rope_scaling=RopeState(method="llama3", factor=8, original_len=8192))


@pytest.mark.parametrize(
    ("config", "extension", "requested", "limit"),
    [
        (QWEN25, AS_CONFIGURED, 0, 32768),
        (QWEN25, AS_CONFIGURED, 32768, 32768),
        (QWEN25, NTK, 0, 32768),
        (QWEN25, NTK, 262144, 262144),
        (QWEN25, LongContext(rope="yarn", factor=1.5), 49152, 49152),
        (QWEN_7B, AS_CONFIGURED, 0, 32768),
        (QWEN_7B, NONE, 0, 8192),
        (QWEN_7B, LongContext(rope="linear", factor=2), 0, 16384),
        (LLAMA3, AS_CONFIGURED, 0, 32768),
    ],
)
def test_the_limit_follows_the_method(config, extension, requested: int, limit: int) -> None:
    assert model_limit(config, extension, requested) == limit


@pytest.mark.parametrize(
    ("config", "extension", "requested", "words"),
    [
        (QWEN25, AS_CONFIGURED, 32769, ["rope auto", "32,768", "32,769", "--rope dynamic_ntk", "262,144"]),
        (QWEN25, NTK, 262145, ["262,144", "no method covers", "--context 262144"]),
        (QWEN_7B, NONE, 9000, ["8,192", "--rope auto", "32,768"]),
        (QWEN_7B, NONE, 40000, ["8,192", "--rope dynamic_ntk", "65,536"]),
        (QWEN25, AS_CONFIGURED, 262145, ["262,145", "or --rope dynamic_ntk, which covers 262,144"]),
        (LLAMA3, AS_CONFIGURED, 40000, ["32,768", "no method covers"]),
        (LLAMA3, NTK, 40000, ["llama3", "use auto or none"]),
    ],
)
def test_a_context_that_nothing_covers_is_refused_with_what_would(config, extension, requested, words) -> None:
    with pytest.raises(ConfigError) as error:
        model_limit(config, extension, requested)
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(("options", "is_noted"), [({}, True), ({"max_model_len": 256}, False)])
def test_a_method_without_a_context_is_noted(model, tokenizer, options, is_noted: bool) -> None:
    engine = LLM(model, tokenizer, EngineConfig(extension=NTK, **options)).engine
    assert engine.max_model_len == 256 and ("covers 2,048" in engine.context_note) == is_noted
    assert LLM(model, tokenizer, EngineConfig(extension=NONE)).engine.context_note == ""


def test_an_engine_takes_no_context_above_what_its_method_covers(model, tokenizer) -> None:
    for size in ({}, {"num_blocks": 100}):
        with pytest.raises(ConfigError, match="--rope dynamic_ntk, which covers 2,048"):
            LLM(model, tokenizer, EngineConfig(max_model_len=257, **size))
        extended = EngineConfig(max_model_len=2048, extension=NTK, **size)
        assert LLM(model, tokenizer, extended).engine.limits.longest(NONE) == 256


REMEDIES = [
    (
        256,
        AS_CONFIGURED,
        NONE,
        "rope dynamic_ntk covers 2,048 tokens: load the model with --rope dynamic_ntk --context 301",
    ),
    (1000, NTK, NONE, "rope dynamic_ntk covers 1,000 tokens here"),
    (256, NTK, NTK, "rope dynamic_ntk covers 2,048 tokens: load the model with --rope dynamic_ntk --context 301"),
    (1000, LongContext(rope="yarn"), LongContext(rope="linear", factor=1), "rope dynamic_ntk covers 1,000 tokens here"),
]


@pytest.mark.parametrize(("max_model_len", "of_engine", "of_request", "remedy"), REMEDIES)
def test_a_prompt_beyond_its_method_is_refused_with_what_covers_it(model, max_model_len, of_engine, of_request, remedy):
    limits = TextLimits(model.config, of_engine, max_model_len)
    limits.check(255, 1, of_request)
    limits.check(256, 0, of_request)
    with pytest.raises(RequestError, match="has 300 tokens, but the context is 256") as error:
        limits.check(300, 1, of_request)
    assert str(error.value).endswith(remedy)
    assert (error.value.param, error.value.code) == ("prompt", "context_length_exceeded")


def test_a_context_that_was_chosen_too_small_is_named(model) -> None:
    with pytest.raises(RequestError, match="; this model covers 256 tokens: load it with --context 201$"):
        TextLimits(model.config, AS_CONFIGURED, 128).check(200, 1, AS_CONFIGURED)


def test_a_prompt_that_nothing_covers_names_no_method(model) -> None:
    with pytest.raises(RequestError, match="leave out old turns$"):
        TextLimits(model.config, AS_CONFIGURED, 256).check(2049, 0, AS_CONFIGURED)


def test_a_method_of_the_engine_covers_what_no_proposal_does(model) -> None:
    limits = TextLimits(model.config, LongContext(rope="yarn", factor=16), 4096)
    with pytest.raises(RequestError, match="rope yarn covers 4,096 tokens here"):
        limits.check(3000, 1, NTK)


def test_a_method_that_does_not_fit_the_model_is_an_error_of_the_field_rope() -> None:
    with pytest.raises(RequestError, match="llama3") as error:
        TextLimits(LLAMA3, AS_CONFIGURED, 32768).check(3, 1, NTK)
    assert error.value.param == "rope"


@pytest.mark.parametrize(
    ("extension", "room"), [(NONE, 256), (LongContext(rope="linear", factor=1.25), 320), (None, 400)]
)
def test_an_answer_ends_where_its_method_ends(model, tokenizer, extension, room: int) -> None:
    llm = LLM(model, tokenizer, EngineConfig(max_model_len=400, extension=NTK))
    params = SamplingParams(temperature=0, max_tokens=1000, ignore_eos=True)
    answer = llm.generate([[65] * 250], params, extension=extension)[0].outputs[0]
    assert answer.finish_reason == "length" and len(answer.token_ids) == room - 250


def test_a_rotation_of_its_own_is_limited_by_the_context_only(model, tokenizer) -> None:
    llm = LLM(model, tokenizer, EngineConfig(max_model_len=400, extension=NTK))
    params = SamplingParams(temperature=0, max_tokens=200, ignore_eos=True)
    context = Context(rope=RopeState(method="linear", factor=2))
    assert len(llm.generate([[65] * 300], params, context=context)[0].outputs[0].token_ids) == 100


def test_the_method_of_a_request_changes_its_answer_only_beyond_the_trained_length(tokenizer) -> None:
    model = tiny_model(max_position_embeddings=32)
    llm = LLM(model, tokenizer, EngineConfig(max_model_len=128, extension=NTK, block_size=8))
    params = SamplingParams(temperature=0, max_tokens=1, logprobs=3)

    def scores(count: int, extension: LongContext) -> list:
        return llm.generate([list(range(count))], params, extension=extension)[0].outputs[0].logprobs

    methods = [NTK, LongContext(rope="yarn"), LongContext(rope="linear"), LongContext(rope="dynamic_ntk", logn=True)]
    short, long = [[scores(count, method) for method in methods] for count in (31, 100)]
    assert all(each == short[0] for each in short)
    assert all(first != second for number, first in enumerate(long) for second in long[:number])


def test_a_chat_and_a_score_have_a_method_too(model, tokenizer) -> None:
    from qianwen.chat import Message, collect

    llm = LLM(model, tokenizer, EngineConfig(max_model_len=600, extension=NTK))
    messages = [Message("user", "x" * 300)]
    deltas = list(llm.chat(messages, max_tokens=4, temperature=0, ignore_eos=True))
    assert deltas[-1].finish_reason == "length" and collect(deltas).content is not None
    with pytest.raises(RequestError, match="rope dynamic_ntk covers 600 tokens here"):
        list(llm.chat(messages, max_tokens=4, extension=NONE))
    with pytest.raises(RequestError, match="the context is 256"):
        llm.engine.check_request(Request([65] * 300, SamplingParams(), extension=NONE))


NOTES = [
    (QWEN25, NTK, "dynamic NTK; quality is measured up to 8×"),
    (QWEN_7B, AS_CONFIGURED, "dynamic NTK; quality is measured up to 8×"),
    (QWEN25, LongContext(rope="yarn", factor=2), "YaRN up to 2×; quality is not measured"),
    (
        replace(
            QWEN25,
            scaling_from=32768,
            rope_scaling=RopeState(method="yarn", factor=4, original_len=32768),
            max_position_embeddings=131072,
            train_len=32768,
        ),
        AS_CONFIGURED,
        "YaRN, as the model's files say",
    ),
    (replace(QWEN_7B, use_dynamic_ntk=False), AS_CONFIGURED, "no method extends it"),
]


@pytest.mark.parametrize(("config", "extension", "words"), NOTES)
def test_a_text_beyond_the_trained_length_is_noted(config, extension, words: str) -> None:
    limits = TextLimits(config, extension, 65536)
    assert limits.note(config.train_len) == ""
    assert limits.note(config.train_len + 1).endswith(words) and f"{config.train_len:,}" in limits.note(60000)


def test_windows_are_a_setting_of_the_loaded_model(model, tokenizer, tmp_path) -> None:
    from qianwen.checkpoints.hf_folder import write_folder

    write_folder(model, tokenizer, tmp_path, chat=True)
    llm = LLM.load(str(tmp_path), windows=(16, 0), config=EngineConfig(block_size=8))
    assert llm.engine.runner.model.config.layer_windows == layer_windows(2, [16, 0]) == (16, 0)
    params = SamplingParams(temperature=0, max_tokens=8, ignore_eos=True)
    windowed = LLM(tiny_model(layer_windows=(16, 0)), tokenizer, EngineConfig(block_size=8))
    prompts = [list(range(60))]
    assert llm.generate(prompts, params)[0].text == windowed.generate(prompts, params)[0].text
    with pytest.raises(ConfigError, match="3 windows do not fit 2 layers"):
        LLM.load(str(tmp_path), windows=(8, 16, 0))
