"""R24 across the lengths where the rope state of a text changes, while it is generated."""

import random
from collections import defaultdict
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Context, Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model.long_context import LongContext
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import RequestError

from .conftest import tiny_model

TRAINED = 32  # tokens; the state changes after 32, 64 and 128 tokens
TEXT = [token * 7 % 256 for token in range(200)]
SAMPLED = SamplingParams(max_tokens=20, logprobs=0, seed=1, ignore_eos=True)
GREEDY = replace(SAMPLED, temperature=0)
YARN = RopeState(method="yarn", factor=4, original_len=TRAINED)
NETWORKS = {
    "dynamic NTK and LogN": {"use_dynamic_ntk": True, "use_logn_attn": True},
    "YARN of the files": {"rope_scaling": YARN, "scaling_from": TRAINED},
    "windows": {"use_dynamic_ntk": True, "layer_windows": (24, 0)},
}


def network(kind: str = "dynamic NTK and LogN", seed: int = 0):
    return tiny_model(seed, train_len=TRAINED, initializer_range=0.15, **NETWORKS[kind])


@pytest.fixture(scope="module")
def growing():
    return network()


class Played:
    """All that an engine returned: tokens and log-probabilities of each answer, and its last usage."""

    def __init__(self, engine: LLMEngine, requests: list[Request]) -> None:
        self.engine = engine
        self.tokens, self.logprobs, self.usage = defaultdict(list), defaultdict(list), {}
        self.names = [engine.add_request(request) for request in requests]
        self.requests = dict(zip(self.names, requests, strict=True))

    def step(self) -> None:
        for output in self.engine.step():
            answer = output.request_id, output.index
            self.tokens[answer] += output.token_ids
            self.logprobs[answer] += [item.logprob for item in output.logprobs]
            self.usage[answer] = output.usage

    def finish(self) -> "Played":
        while self.engine.has_work:
            self.step()
        assert self.engine.blocks.num_free_blocks == self.engine.blocks.num_blocks
        return self

    @property
    def answers(self) -> list[tuple]:
        """Tokens and log-probabilities, in the order of the requests and their answers."""
        return [
            (self.tokens[name, index], self.logprobs[name, index])
            for name in self.names
            for index in range(self.requests[name].params.n)
        ]

    @torch.inference_mode()
    def distance(self, model) -> float:
        """The largest difference in log-probability between an answer's token and a fresh forward of the text before."""
        worst = 0.0
        for (name, index), tokens in self.tokens.items():
            text = [*self.requests[name].tokens, *tokens]
            first = len(text) - len(tokens)
            for end, got in zip(range(first, len(text)), self.logprobs[name, index], strict=True):
                scores = model.logits(model(torch.tensor([text[:end]]))[0, -1])[:259]
                worst = max(worst, abs(scores.log_softmax(-1)[text[end]].item() - got))
        return worst


def play(model, tokenizer, requests: list[Request], draft_model=None, **config) -> Played:
    config = {"block_size": 8, "max_num_batched_tokens": 16} | config
    return Played(LLMEngine(model, tokenizer, EngineConfig(**config), draft_model), requests).finish()


@pytest.mark.parametrize("kind", NETWORKS)
def test_every_token_is_predicted_as_after_a_fresh_prompt(tokenizer, kind):
    """R24, in a batch of requests of all lengths and states; each answer crosses at its own step."""
    model = network(kind)
    requests = [Request(TEXT[at : at + length], SAMPLED) for at, length in enumerate((5, 20, 31, 32, 33, 50, 64, 120))]
    exact = play(model, tokenizer, requests)
    assert exact.engine.scheduler.num_rereads == (3 if kind.startswith("YARN") else 5)
    assert all(len(tokens) == 20 for tokens in exact.tokens.values())
    assert exact.distance(model) < 1e-5
    fixed = play(model, tokenizer, [replace(each, extension=LongContext(on_growth="fixed")) for each in requests])
    assert not fixed.engine.scheduler.num_rereads
    assert fixed.distance(model) > 1e-2


@settings(max_examples=12)
@given(st.randoms(use_true_random=False))
def test_random_crossings_in_random_engines(growing, tokenizer, rng: random.Random):
    size = {"block_size": rng.choice((4, 8)), "max_model_len": 160, "num_blocks": rng.choice((40, 60))}
    batch = {"max_num_seqs": rng.randint(1, 5), "max_num_batched_tokens": rng.randint(1, 40)}
    drafts = {"num_speculative_tokens": rng.choice((0, 0, 5))}
    requests = []
    for _ in range(rng.randint(1, 5)):
        length = rng.choice((32, 64, 128)) + rng.randint(-12, 1)
        params = replace(rng.choice((SAMPLED, GREEDY)), max_tokens=rng.randint(1, 15), n=rng.choice((1, 1, 3)))
        requests.append(Request(TEXT[:length] if rng.random() < 0.5 else [rng.randrange(9)] * length, params))
    played = play(growing, tokenizer, requests, **size, **batch, **drafts)
    for (name, _), tokens in played.tokens.items():
        assert len(tokens) == played.requests[name].params.max_tokens
    assert played.distance(growing) < 1e-5


@pytest.mark.parametrize("config", [{}, {"kv_cache_dtype": "int8"}, {"fused_attention": False}])
def test_bits_do_not_depend_on_the_batch_or_the_cache(growing, tokenizer, config):
    """In the batch-invariant mode an answer that crosses is, to the last bit, that of fresh prompts."""
    config |= {"batch_invariant": True}
    requests = [Request(TEXT[at : at + length], SAMPLED) for at, length in enumerate((25, 30, 60, 7))]
    together = play(growing, tokenizer, requests, **config)
    assert together.engine.scheduler.num_rereads == 3
    for request, (tokens, logprobs) in zip(requests, together.answers, strict=True):
        alone = play(growing, tokenizer, [request], **config, num_blocks=8, max_model_len=64 + 20)
        assert alone.answers == [(tokens, logprobs)]
        ends = [len(request.tokens) + count for count in range(20)]
        fresh = [Request([*request.tokens, *tokens][:end], replace(GREEDY, max_tokens=1)) for end in ends]
        scored = play(growing, tokenizer, [replace(each, score_from=len(each.tokens) - 1) for each in fresh], **config)
        assert scored
    # every token, predicted by a prompt that ends just before it
    request, (tokens, logprobs) = requests[0], together.answers[0]
    for count in (6, 7, 8, 9, 19):
        params = replace(GREEDY, max_tokens=1, logprob_token_ids=(tokens[count],))
        ids = [*request.tokens, *tokens[:count]]
        engine = LLMEngine(growing, tokenizer, EngineConfig(**config))
        engine.add_request(Request(ids, params))
        [output] = engine.step()
        assert dict(output.logprobs[0].top)[tokens[count]] == logprobs[count]
