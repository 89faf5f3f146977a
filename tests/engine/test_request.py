"""Requests: the full context decides which blocks are shared; features replace embeddings."""

from dataclasses import replace

import pytest
import torch

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Context, FeatureSpan, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.caches.contiguous import ContiguousCache
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import RequestError

GREEDY = SamplingParams(temperature=0, max_tokens=10, logprobs=2, ignore_eos=True)
TEXT = list(b"a text that is long enough to be cut into several chunks and blocks")
YARN = RopeState(method="yarn", factor=4, original_len=64)


def answer(engine: LLMEngine, *requests: Request) -> list[tuple]:
    """Tokens, log-probabilities and cached prompt tokens of each request."""
    names = [engine.add_request(request) for request in requests]
    tokens, logprobs, cached = ({name: [] for name in names} for _ in range(3))
    while engine.has_work:
        for output in engine.step():
            tokens[output.request_id] += output.token_ids
            logprobs[output.request_id] += [(item.logprob, item.top) for item in output.logprobs]
            cached[output.request_id] = output.usage.cached_tokens
    assert engine.blocks.num_free_blocks == engine.blocks.num_blocks
    return [(tokens[name], logprobs[name], cached[name]) for name in names]


def states(seed: int, length: int = 4) -> torch.Tensor:
    return torch.randn(length, 64, generator=torch.Generator().manual_seed(seed))


def embedded(model, start: int, end: int) -> FeatureSpan:
    """The embeddings of a piece of the text, as features."""
    with torch.inference_mode():
        return FeatureSpan(start, model.model.embed_tokens(torch.tensor(TEXT[start:end])))


def test_every_field_of_a_context_changes_its_root():
    span = FeatureSpan(1, states(0))
    contexts = [
        Context(),
        Context(salt="a"),
        Context(adapter="a"),
        Context(rope=YARN),
        Context(rope=RopeState()),
        Context(features=(span,)),
        Context(features=(FeatureSpan(2, states(0)),)),
        Context(features=(FeatureSpan(1, states(1)),)),
        Context(features=(FeatureSpan(1, states(0).bfloat16()),)),
        Context(salt="a', rope=None"),
    ]
    assert len({context.root for context in contexts}) == len({*contexts}) == len(contexts)
    assert Context(features=(FeatureSpan(1, states(0)),)).root == contexts[5].root
    assert Context(rope=replace(YARN, factor=4.0)).root == contexts[3].root


def test_requests_are_values():
    requests = {Request([1, 2], GREEDY, Context(salt="a")), Request((1, 2), GREEDY, Context(salt="a"))}
    assert len(requests) == 1


def test_features_keep_a_copy():
    given = states(0)
    span = FeatureSpan(0, given)
    digest = span.digest
    given.zero_()
    assert FeatureSpan(0, span.states).digest == digest and span.states.any()


@pytest.mark.parametrize(
    "make",
    [
        lambda: FeatureSpan(0, torch.zeros(3)),
        lambda: FeatureSpan(0, torch.zeros(0, 64)),
        lambda: FeatureSpan(-1, states(0)),
        lambda: FeatureSpan(0, torch.zeros(2, 64, dtype=torch.long)),
        lambda: FeatureSpan(0, torch.full((2, 64), float("nan"))),  # which would spoil whoever gets its block next
        lambda: Context(features=(FeatureSpan(3, states(0)), FeatureSpan(0, states(1)))),
    ],
)
def test_unusable_features_are_refused(make):
    with pytest.raises(RequestError) as error:
        make()
    assert error.value.param == "features"


@pytest.mark.parametrize("span", [FeatureSpan(8, states(0)), FeatureSpan(0, torch.zeros(2, 32))])
def test_features_that_do_not_fit_the_prompt_or_the_model_are_refused(model, tokenizer, span):
    engine = LLMEngine(model, tokenizer)
    with pytest.raises(RequestError, match="do not fit a prompt of 10 tokens with hidden size 64"):
        engine.add_request(Request(TEXT[:10], GREEDY, Context(features=(span,))))


@pytest.mark.parametrize("chunk", [1, 3, 512])
@pytest.mark.parametrize("is_invariant", [False, True])
def test_embeddings_given_as_features_are_the_text(model, tokenizer, chunk, is_invariant):
    """Chunks and tiles may cut spans anywhere; the ids of the replaced tokens have no effect."""
    config = EngineConfig(block_size=4, max_num_batched_tokens=chunk, batch_invariant=is_invariant)
    spans = (embedded(model, 41, 62), embedded(model, 2, 30))
    ids = [7 if 2 <= at < 30 or 41 <= at < 62 else token for at, token in enumerate(TEXT)]
    request = Request(ids, GREEDY, Context(features=spans))
    [wanted] = answer(LLMEngine(model, tokenizer, config), Request(TEXT, GREEDY))
    engine = LLMEngine(model, tokenizer, config)
    assert answer(engine, request) == [wanted]
    assert answer(engine, request)[0][0] == wanted[0]  # from the cache


def test_only_the_same_features_share_blocks(model, tokenizer):
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=4))
    first, same, other = (Context(features=(FeatureSpan(20, states(seed)),)) for seed in (0, 0, 1))
    answers = [answer(engine, Request(TEXT, GREEDY, context))[0] for context in (first, same, other, Context())]
    assert [cached for *_, cached in answers] == [0, 64, 0, 0]
    assert answers[0][0] == answers[1][0]
    assert answers[0][0] != answers[2][0] != answers[3][0] != answers[0][0]


def test_features_survive_preemption(model, tokenizer):
    params = replace(GREEDY, max_tokens=30)
    requests = [Request(TEXT[:6], params, Context(features=(FeatureSpan(1, states(seed)),))) for seed in range(6)]
    config = EngineConfig(block_size=4, batch_invariant=True)
    roomy = LLMEngine(model, tokenizer, config)
    tight = LLMEngine(model, tokenizer, replace(config, num_blocks=16))
    wanted, got = answer(roomy, *requests), answer(tight, *requests)
    assert tight.scheduler.num_preemptions and [item[:2] for item in got] == [item[:2] for item in wanted]
    assert len({tuple(tokens) for tokens, *_ in got}) == 6


@pytest.mark.parametrize("kind", ["auto", "int8"])
def test_states_of_positions_side_by_side(model, tokenizer, kind):
    """Requests with different states in one batch: each has its own result, and they share no blocks."""
    ropes = [
        RopeState(),
        YARN,
        RopeState(method="linear", factor=2),
        RopeState(method="llama3", factor=8, original_len=64),
    ]
    engine = LLMEngine(model, tokenizer, EngineConfig(block_size=4, kv_cache_dtype=kind))
    for _ in range(2):
        answers = answer(engine, *[Request(TEXT, GREEDY, Context(rope=rope)) for rope in ropes])
        for rope, (tokens, logprobs, _) in zip(ropes, answers, strict=True):
            with torch.inference_mode():
                hidden = model(torch.tensor([TEXT]), cache=ContiguousCache(model.config, rope=rope))[0, -1]
                scores = model.logits(hidden)[: tokenizer.vocab_size].log_softmax(-1)
            assert logprobs[0][0] == pytest.approx(scores.max().item(), abs=1e-4 if kind == "auto" else 0.1)
            if kind == "auto":
                assert tokens[0] == scores.argmax()
    assert [cached for *_, cached in answers] == [64] * 4
    assert len({tuple(tokens) for tokens, *_ in answers}) == 4
