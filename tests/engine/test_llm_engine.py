import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.checkpoints.adapter_folder import load_adapter
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.scoring import embed
from qianwen.kernels.cpu import operators
from qianwen.model.linears.packed import PackedLinear, pack_model
from qianwen.runtime.errors import RequestError

from .conftest import tiny_model

GREEDY = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
PROMPTS = [list(b"hello world"), list(b"The quick brown fox " * 4), [120], list(b"abc" * 30), list(b"hello worms")]


def finish(engine: LLMEngine) -> dict[tuple[str, int], list[int]]:
    """Run all requests to the end; returns token ids by request and answer."""
    tokens: dict[tuple[str, int], list[int]] = {}
    while engine.has_work:
        for output in engine.step():
            tokens.setdefault((output.request_id, output.index), []).extend(output.token_ids)
    return tokens


def is_idle(engine: LLMEngine) -> bool:
    return engine.blocks.num_free_blocks == engine.blocks.num_blocks and not engine._requests and not engine._siblings


CONFIGS = {
    "plain": {},
    "no prefix cache": {"prefix_caching": False},
    "small chunks": {"block_size": 4, "max_num_batched_tokens": 7},
    "few blocks": {"block_size": 4, "num_blocks": 32, "max_model_len": 128, "max_num_batched_tokens": 16},
    "few seats": {"max_num_seqs": 2},
    "no kernel": {"fused_attention": False, "block_size": 8},
    "invariant": {"block_size": 8, "batch_invariant": True, "max_num_batched_tokens": 37},
}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_answers_are_those_of_the_full_forward(model, tokenizer, greedy, config):
    """R24: cached = uncached = paged = batched = chunked = preempted."""
    engine = LLMEngine(model, tokenizer, EngineConfig(**config))
    for _ in range(2):  # the second time the prompts are in the cache
        names = [engine.add_request(Request(prompt, GREEDY)) for prompt in PROMPTS]
        tokens = finish(engine)
        for name, prompt in zip(names, PROMPTS, strict=True):
            assert tokens[name, 0] == greedy(prompt, 12)
    assert is_idle(engine)


def test_preempted_requests_give_the_same_answer(model, tokenizer):
    """Batch-invariant, because PyTorch's products of a few rows round in another order on some processors."""
    size = {"block_size": 4, "max_model_len": 128, "batch_invariant": True}
    engine = LLMEngine(model, tokenizer, EngineConfig(num_blocks=32, **size))
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    names = {engine.add_request(Request([value], params)): value for value in range(8)}
    tokens = finish(engine)
    assert engine.scheduler.num_preemptions and is_idle(engine)
    for name, value in names.items():
        alone = LLMEngine(model, tokenizer, EngineConfig(num_blocks=32, **size))
        request = alone.add_request(Request([value], params))
        assert tokens[name, 0] == finish(alone)[request, 0]
        assert not alone.scheduler.num_preemptions


@settings(max_examples=25)
@given(st.randoms(use_true_random=False))
def test_random_requests_and_aborts_change_no_answer(model, tokenizer, greedy, rng: random.Random):
    blocks = {"block_size": 4, "num_blocks": rng.randint(32, 60), "max_model_len": 128}
    batch = {"max_num_seqs": rng.randint(1, 5), "max_num_batched_tokens": rng.randint(1, 40)}
    engine = LLMEngine(model, tokenizer, EngineConfig(**blocks, **batch))
    asked, tokens, aborted = {}, {}, set()
    todo = [(rng.choice(PROMPTS), rng.randint(1, 12)) for _ in range(8)]
    while todo or engine.has_work:
        if todo and rng.random() < 0.4:
            prompt, count = todo.pop()
            name = engine.add_request(Request(prompt, SamplingParams(temperature=0, max_tokens=count, ignore_eos=True)))
            asked[name] = (prompt, count)
        if asked and rng.random() < 0.1:
            name = rng.choice(list(asked))
            engine.abort(name)
            aborted.add(name)
        for output in engine.step():
            tokens.setdefault(output.request_id, []).extend(output.token_ids)
    assert is_idle(engine)
    for name, (prompt, count) in asked.items():
        got = tokens.get(name, [])
        assert got == greedy(prompt, count)[: len(got)]
        assert len(got) == count or name in aborted


def test_a_seed_gives_the_same_text_in_any_batch(model, tokenizer):
    params = SamplingParams(temperature=1.5, top_p=0.95, seed=7, n=2, max_tokens=10, ignore_eos=True)
    engine = LLMEngine(model, tokenizer)
    name = engine.add_request(Request(PROMPTS[0], params))
    alone = finish(engine)
    assert alone[name, 0] != alone[name, 1]
    others = [engine.add_request(Request(prompt, SamplingParams(max_tokens=20))) for prompt in PROMPTS]
    engine.step()
    again = engine.add_request(Request(PROMPTS[0], params))
    crowded = finish(engine)
    assert [crowded[again, index] for index in (0, 1)] == [alone[name, index] for index in (0, 1)]
    assert len(others) == 5 and is_idle(engine)


def test_several_answers_share_the_prompt(model, tokenizer):
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=8))
    engine.add_request(Request(PROMPTS[1], SamplingParams(n=3, max_tokens=2, seed=1, ignore_eos=True)))
    cached = {}
    while engine.has_work:
        for output in engine.step():
            cached[output.index] = output.usage.cached_tokens
    assert cached == {0: 0, 1: 72, 2: 72}  # 80 tokens, of which the last block is computed again


def test_cancelled_requests_leave_no_state(model, tokenizer, greedy):
    """R34: 200 requests are cancelled at random steps; the next one has the right answer."""
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=4, max_num_seqs=8))
    rng = random.Random(0)
    for _ in range(200):
        prompt = rng.choice(PROMPTS)
        name = engine.add_request(
            Request(prompt, SamplingParams(n=rng.randint(1, 3), max_tokens=None, ignore_eos=True))
        )
        for _ in range(rng.randint(0, 2)):
            engine.step()
        if rng.random() < 0.9:
            engine.abort(name)
            engine.abort(name)
    for name in list(engine._requests):
        engine.abort(name)
    assert is_idle(engine) and not engine.has_work
    name = engine.add_request(Request(PROMPTS[0], GREEDY))
    assert finish(engine)[name, 0] == greedy(PROMPTS[0], 12)


def test_only_the_same_salt_shares(model, tokenizer):
    """S12: requests with another salt share no cached blocks."""
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=8))

    def cached(salt: str) -> int:
        engine.add_request(Request(PROMPTS[1], SamplingParams(max_tokens=1), Context(salt=salt)))
        return next(o.usage.cached_tokens for o in iter(engine.step, None) for o in o)

    assert [cached(salt) for salt in ("a", "b", "", "a", "b")] == [0, 0, 0, 72, 72]


def test_a_prompt_that_does_not_fit_is_refused(model, tokenizer):
    """R37: a prompt is never truncated silently."""
    engine = LLMEngine(model, tokenizer)
    for size in (256, 257, 2560):
        with pytest.raises(RequestError, match=f"{size} tokens.*256") as error:
            engine.add_request(Request([1] * size, GREEDY))
        assert error.value.code == "context_length_exceeded"
    name = engine.add_request(Request([1] * 255, GREEDY))
    assert len(finish(engine)[name, 0]) == 1  # the context is full
    for wrong in ([], [259], [-1]):
        with pytest.raises(RequestError):
            engine.add_request(Request(wrong, GREEDY))
    with pytest.raises(RequestError, match="300"):
        engine.add_request(Request([1], SamplingParams(logit_bias={300: 1.0})))
    assert is_idle(engine)


def test_padding_rows_of_the_weights_are_never_chosen(model, tokenizer):
    engine = LLMEngine(model, tokenizer)
    name = engine.add_request(Request([1], SamplingParams(temperature=100.0, seed=0, max_tokens=200, ignore_eos=True)))
    tokens = finish(engine)[name, 0]
    assert max(tokens) < tokenizer.vocab_size < model.config.vocab_size and len(set(tokens)) > 60


def test_the_scores_of_a_prompt(model, tokenizer):
    ids = PROMPTS[1]
    with torch.inference_mode():
        scores = model.logits(model(torch.tensor([ids])))[0, :, : tokenizer.vocab_size].log_softmax(-1)
    for config in ({}, {"max_num_batched_tokens": 5, "block_size": 4}):
        engine = LLMEngine(model, tokenizer, EngineConfig(**config))
        for start in (0, 3, 3, 79):
            engine.add_request(Request(ids, SamplingParams(max_tokens=0), score_from=start))
            outputs = [output for _ in range(40) for output in engine.step()]
            assert [output.finish_reason for output in outputs] == ["length"]
            targets = range(max(start, 1), len(ids))
            got = outputs[0].prompt_logprobs
            assert [item.token for item in got] == [ids[target] for target in targets]
            want = torch.stack([scores[target - 1, ids[target]] for target in targets])
            torch.testing.assert_close(torch.tensor([item.logprob for item in got]), want, atol=1e-4, rtol=0)
            assert [item.top[0][0] for item in got] == [int(scores[target - 1].argmax()) for target in targets]


def test_a_step_that_fails_is_computed_again(model, tokenizer, greedy):
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=4, max_num_batched_tokens=16))
    name = engine.add_request(Request(PROMPTS[1], GREEDY))
    engine.step()
    forward = engine.runner.model
    engine.runner.model = None  # as Ctrl-C in the middle of a forward
    with pytest.raises(AttributeError):
        engine.step()
    engine.runner.model = forward
    assert finish(engine)[name, 0] == greedy(PROMPTS[1], 12)


@pytest.mark.parametrize("bits", [None, 8])
def test_each_request_has_its_own_adapter_over_one_base(tokenizer, adapter_folders, bits):
    """Base model and adapters in one batch, with prompts of the same prefix, give the answers of each alone."""

    def network(name: str = ""):
        model = tiny_model() if bits is None else pack_model(tiny_model(), bits)
        return load_adapter(model, adapter_folders[name]) if name else model

    engine = LLMEngine(network(), tokenizer, EngineConfig(block_size=4, batch_invariant=True))
    for name, folder in adapter_folders.items():
        engine.add_adapter(name, folder)
    order = ["a", "", "b", "a", ""]
    for _ in range(2):  # the second time all prompts are in the cache, each under its adapter
        asked = [engine.add_request(Request(PROMPTS[1], GREEDY, Context(adapter=name))) for name in order]
        tokens = finish(engine)
        answers = {name: tokens[request, 0] for name, request in zip(order, asked, strict=True)}
        assert len(set(map(tuple, answers.values()))) == 3
        for name in ("", "a", "b"):
            alone = LLMEngine(network(name), tokenizer, EngineConfig(batch_invariant=True))
            request = alone.add_request(Request(PROMPTS[1], GREEDY))
            assert finish(alone)[request, 0] == answers[name]
    assert is_idle(engine)
    llm = LLM(network(), tokenizer)
    llm.engine.add_adapter("a", adapter_folders["a"])
    vectors = [embed(llm, PROMPTS[1:2], context=Context(adapter=name)) for name in ("a", "")]
    assert abs(vectors[0] - embed(LLM(network("a"), tokenizer), PROMPTS[1:2])).max() < 1e-5
    assert abs(vectors[0] - vectors[1]).max() > 1e-3
    with pytest.raises(RequestError, match="there is no adapter 'c'"):
        engine.add_request(Request(PROMPTS[0], GREEDY, Context(adapter="c")))


def test_the_batch_invariant_mode_does_not_depend_on_an_earlier_engine(tokenizer):
    model = pack_model(tiny_model(), 8)
    packed = [module for module in model.modules() if isinstance(module, PackedLinear)]
    for is_invariant in (False, True, False):
        LLMEngine(model, tokenizer, EngineConfig(batch_invariant=is_invariant))
        assert {module.limits for module in packed} == {operators.ONE_WAY if is_invariant else None}
