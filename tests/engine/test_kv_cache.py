"""The cache of models with windows: it holds no more than the windows, and the answers do not change."""

import random

import pytest

from qianwen.engine import kv_cache
from qianwen.engine.block_manager import BlockManager
from qianwen.engine.kv_cache import blocks_of_kinds, new_cache
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.kernels.cpu import operators
from qianwen.model.caches.int8 import Int8PagedCache
from qianwen.model.caches.paged import ABSENT, PagedCache
from qianwen.model.linears.packed import pack_model

from .conftest import tiny_model

WINDOWS = {"all": (9, 9, 9), "low": (6, 21, 0), "full between": (0, 13, 0)}


def held(seq) -> list[int]:
    """Number of blocks of a sequence in each kind of layer."""
    return [sum(block != ABSENT for block in table) for table in seq.block_tables]


def read(engine: LLMEngine, prompts: list[list[int]], num_tokens: int = 30) -> list[list[tuple]]:
    """All outputs of greedy answers that run in one batch."""
    params = SamplingParams(temperature=0, max_tokens=num_tokens, logprobs=2, ignore_eos=True)
    names = [engine.add_request(Request(prompt, params)) for prompt in prompts]
    answers = {name: [] for name in names}
    while engine.has_work:
        for output in engine.step():
            answers[output.request_id] += [(item.token, item.logprob, item.top) for item in output.logprobs]
    assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
    return list(answers.values())


def texts(*lengths: int) -> list[list[int]]:
    rng = random.Random(0)
    return [[rng.randrange(256) for _ in range(length)] for length in lengths]


def test_pools_follow_the_windows():
    assert blocks_of_kinds((0, 64, 100_000), 2000, 32, 16, 512) == [2000, 2 * (16 * 4 + 16), 2000]
    assert blocks_of_kinds((0,), 7, 32, 16, 512) == [7]
    assert blocks_of_kinds((64,), 7, 32, 16, 512) == [7]


def test_new_cache_has_the_configured_type(model):
    def make(kind, is_fused=True):
        return new_cache(model, [4], 8, kind, is_fused=is_fused, is_invariant=False)

    assert isinstance(make("int8"), Int8PagedCache) and type(make("auto")) is PagedCache
    assert make("bfloat16").num_bytes * 2 == make("auto").num_bytes
    assert (make("auto").kernel is not None) == operators.available() and make("auto", is_fused=False).kernel is None


@pytest.mark.parametrize("kind", ["auto", "int8"])
def test_a_long_text_holds_no_more_blocks_than_its_windows(tokenizer, monkeypatch, kind):
    """4,000 tokens with windows of 64; the blocks of the current chunk come in addition, only while it runs."""
    model = tiny_model(layer_windows=(64, 64), max_position_embeddings=4096)
    engine = LLMEngine(model, tokenizer, EngineConfig(max_num_seqs=2, block_size=16, kv_cache_dtype=kind))
    [prompt] = texts(3900)
    engine.add_request(Request(prompt, SamplingParams(temperature=0, max_tokens=100, ignore_eos=True)))
    run, during, after = engine.runner.run, [], []

    def watched(chunks):
        [chunk] = chunks
        during.append(held(chunk.seq)[0] - chunk.num_tokens / 16)
        return run(chunks)

    monkeypatch.setattr(engine.runner, "run", watched)
    while engine.has_work:
        engine.step()
        after += [held(seq) for seq in engine.scheduler.running]
    assert len(after) == 107 - 1 and {len(kinds) for kinds in after} == {1}  # 8 chunks, 99 tokens; the last ends it
    assert max(during) <= -(-64 // 16) + 2 and 4 <= max(max(kinds) for kinds in after) <= -(-64 // 16) + 2
    assert engine.blocks.num_blocks < 4000 / 16  # the pool itself is smaller than the text


@pytest.mark.parametrize("kind", ["auto", "int8", "bfloat16"])
@pytest.mark.parametrize("kernels", ["fused", "torch", "packed"])
@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
def test_freeing_blocks_changes_no_bit(tokenizer, monkeypatch, windows, kernels, kind):
    if kernels == "torch":
        monkeypatch.setattr(operators, "available", lambda: False)
    wide = {"hidden_size": 128, "intermediate_size": 192} if kernels == "packed" else {}
    model = tiny_model(layer_windows=windows, num_hidden_layers=3, **wide)
    if kernels == "packed":
        model = pack_model(model, 8)
    config = EngineConfig(block_size=4, max_num_batched_tokens=24, kv_cache_dtype=kind, prefix_caching=False)
    prompts = texts(90, 3, 41, 17)
    got = read(LLMEngine(model, tokenizer, config), prompts)
    monkeypatch.setattr(BlockManager, "free_behind_windows", lambda self, seq: None)
    monkeypatch.setattr(kv_cache, "blocks_of_kinds", lambda windows, num_blocks, *_: [num_blocks] * len(windows))
    monkeypatch.setattr("qianwen.engine.llm_engine.blocks_of_kinds", kv_cache.blocks_of_kinds)
    kept = LLMEngine(model, tokenizer, config)
    assert read(kept, prompts) == got
    assert len(got[0]) == 30


@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS)
@pytest.mark.parametrize("speculates", [False, True])
def test_preemption_shared_prefixes_and_drafts_change_no_answer(tokenizer, windows, speculates):
    """Preempted, cached or with a draft: the answer is that of the request alone without prefix caching."""
    model = tiny_model(layer_windows=windows, num_hidden_layers=3)
    base, *ends = texts(60, 1, 5, 9, 30, 2)
    prompts = [base[:30], *(base + end for end in ends), *(base[:45] + end for end in ends)]
    few = {"num_blocks": 40, "max_model_len": 150, "max_num_batched_tokens": 30, "max_num_seqs": 5, "block_size": 4}
    draft = tiny_model(3, layer_windows=(5, 0)) if speculates else None
    config = EngineConfig(**few, batch_invariant=True, num_speculative_tokens=3 if speculates else 0)
    engine = LLMEngine(model, tokenizer, config, draft)
    alone = LLMEngine(model, tokenizer, EngineConfig(block_size=4, batch_invariant=True, prefix_caching=False))
    wanted = [read(alone, [prompt])[0] for prompt in prompts]
    for _ in range(2):
        got = read(engine, prompts)
        assert [[item[0] for item in each] for each in got] == [[item[0] for item in each] for each in wanted]
        if not speculates:
            assert got == wanted
    hits = engine.add_request(Request(base + [1], SamplingParams(max_tokens=1)))
    [output] = [output for _ in range(9) for output in engine.step()]
    assert output.request_id == hits and output.usage.cached_tokens > 0


def test_drafts_of_a_windowed_model_hold_its_window(tokenizer):
    draft = tiny_model(layer_windows=(8, 8))
    config = EngineConfig(num_speculative_tokens=3, block_size=4)
    engine = LLMEngine(tiny_model(), tokenizer, config, draft)
    engine.add_request(Request(texts(60)[0], SamplingParams(temperature=0, max_tokens=50, ignore_eos=True)))
    for _ in range(6):
        engine.step()
    [shadow] = engine.speculator._shadows.values()
    assert held(shadow)[0] <= -(-(8 + 4 + 3) // 4) + 1 < len(shadow.block_tables[0])
