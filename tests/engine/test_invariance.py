"""R29: in the batch-invariant mode the bits of an answer depend on its own text alone."""

import random

import numpy as np
import pytest

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.kernels.cpu.build import family
from qianwen.model.linears.packed import pack_model
from qianwen.model.transformer import Qwen

from .conftest import tiny_model

needs_kernels = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")

ASKED = SamplingParams(temperature=0, max_tokens=4, logprobs=3, ignore_eos=True)


def answer(engine: LLMEngine, name: str, outputs: tuple = ()) -> list[tuple]:
    """All outputs of one request: those in `outputs` and those until the end."""
    outputs = list(outputs)
    while engine.has_work:
        outputs += engine.step()
    mine = [output for output in outputs if output.request_id == name]
    return [(item.token, item.logprob, item.top) for o in mine for item in (*o.logprobs, *o.prompt_logprobs)]


def trials(model, tokenizer, count: int, seed: int, adapters: dict | None = None, **more) -> None:
    """Run one of six prompts with random other requests, `count` times, and compare with the prompt alone."""
    rng = random.Random(seed)
    names = ["", *(adapters or {})]

    def start(config: EngineConfig) -> LLMEngine:
        engine = LLMEngine(model() if adapters else model, tokenizer, config)
        for name, folder in (adapters or {}).items():
            engine.add_adapter(name, folder)
        return engine

    prompts = [[rng.randrange(256) for _ in range(rng.choice((1, 3, 17, 40, 90)))] for _ in range(6)]
    alone = {}
    for number in range(count):
        batch = {"max_num_batched_tokens": rng.randint(8, 128), "max_num_seqs": 32}
        config = EngineConfig(batch_invariant=True, block_size=8, **batch, **more)
        if number % 4 == 0:
            engine = start(config)  # else the prefix cache is warm
        which = (rng.randrange(6), rng.choice((None, 0)), rng.choice(names))  # a scored prompt is never cached
        request = Request(prompts[which[0]], ASKED, Context(adapter=which[2]), score_from=which[1])
        if which not in alone:
            lonely = start(EngineConfig(batch_invariant=True, block_size=8, **more))
            asked = lonely.add_request(request)
            alone[which] = answer(lonely, asked)
        size = rng.randint(2, 32)
        slot = rng.randrange(size)
        outputs = []
        for other in range(size):
            if other == slot:
                name = engine.add_request(request)
            else:
                busy = [rng.randrange(256) for _ in range(rng.randint(1, 60))]
                params, context = SamplingParams(max_tokens=rng.randint(1, 4)), Context(adapter=rng.choice(names))
                engine.add_request(Request(busy, params, context))
            if rng.random() < 0.1:
                outputs += engine.step()
        assert answer(engine, name, outputs) == alone[which]


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("fields", [{}, {"num_key_value_heads": 4, "qk_norm": True, "head_dim": 24}])
def test_bits_do_not_depend_on_the_batch(tokenizer, fields, fused):
    trials(tiny_model(**fields), tokenizer, 8, seed=0, fused_attention=fused)


def test_bits_do_not_depend_on_the_batch_with_an_int8_cache(tokenizer):
    trials(tiny_model(), tokenizer, 6, seed=2, kv_cache_dtype="int8")


def packed_model() -> Qwen:
    return pack_model(tiny_model(hidden_size=128, intermediate_size=192), 4)


@needs_kernels
def test_bits_of_packed_weights_do_not_depend_on_the_batch(tokenizer):
    trials(packed_model(), tokenizer, 8, seed=0)


@needs_kernels
def test_another_engine_over_the_same_weights_changes_no_bits(tokenizer):
    """The mode is chosen in each step: two engines with different modes run alternately."""
    model, prompt = packed_model(), list(range(40))
    invariant = EngineConfig(batch_invariant=True, max_num_batched_tokens=7)
    alone = LLMEngine(packed_model(), tokenizer, invariant)
    expected = answer(alone, alone.add_request(Request(prompt, ASKED)))
    engine, fast = LLMEngine(model, tokenizer, invariant), LLMEngine(model, tokenizer, EngineConfig())
    name, outputs = engine.add_request(Request(prompt, ASKED)), []
    for length in range(1, 30):
        fast.add_request(Request(list(range(length)), SamplingParams(max_tokens=2)))
        fast.step()
        outputs += engine.step()
    assert answer(engine, name, tuple(outputs)) == expected


def test_adapters_of_another_engine_are_not_applied(tokenizer, adapter_folders):
    model, prompt = tiny_model(), list(range(20))
    plain = LLMEngine(model, tokenizer, EngineConfig(prefix_caching=False))
    expected = answer(plain, plain.add_request(Request(prompt, ASKED)))
    other = LLMEngine(model, tokenizer)
    other.add_adapter("a", adapter_folders["a"])
    assert answer(other, other.add_request(Request(prompt, ASKED, Context(adapter="a")))) != expected
    assert answer(plain, plain.add_request(Request(prompt, ASKED))) == expected


def test_bits_do_not_depend_on_other_adapters_in_the_batch(tokenizer, adapter_folders):
    trials(tiny_model, tokenizer, 8, seed=0, adapters=adapter_folders)


@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["fused attention", "torch attention", "packed", "adapters"])
def test_bits_do_not_depend_on_the_batch_500_times(tokenizer, adapter_folders, kind):
    if kind == "packed":
        trials(packed_model(), tokenizer, 500, seed=1)
    elif kind == "adapters":
        trials(tiny_model, tokenizer, 500, seed=1, adapters=adapter_folders)
    else:
        trials(tiny_model(), tokenizer, 500, seed=1, fused_attention=kind == "fused attention")


def test_the_fast_mode_stays_close(model, tokenizer):
    """Stated tolerance of the default mode, fp32: 1e-4 nats."""
    prompt = list(b"a text of some length, to be read in chunks")
    results = []
    for config in (EngineConfig(), EngineConfig(block_size=4, max_num_batched_tokens=6)):
        engine = LLMEngine(model, tokenizer, config)
        for length in range(1, 12):
            engine.add_request(Request(range(length), SamplingParams(max_tokens=6)))
        results.append(answer(engine, engine.add_request(Request(prompt, ASKED))))
    assert [item[0] for item in results[0]] == [item[0] for item in results[1]]
    np.testing.assert_allclose([item[1] for item in results[0]], [item[1] for item in results[1]], atol=1e-4)
