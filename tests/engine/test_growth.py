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
from qianwen.runtime.errors import ConfigError, RequestError

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
    return tiny_model(seed, train_len=TRAINED, initializer_range=0.1, **NETWORKS[kind])


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
        """The largest difference in log-probability between a token and a fresh forward of the text before it."""
        worst = 0.0
        for (name, index), tokens in self.tokens.items():
            text = torch.tensor([*self.requests[name].tokens, *tokens])
            lengths = torch.arange(len(text) - len(tokens), len(text))
            ids = torch.cat([text[:length] for length in lengths])  # documents of one row, which do not see each other
            positions = torch.cat([torch.arange(length) for length in lengths])
            hidden = model(ids[None], positions[None])[0, lengths.cumsum(0) - 1]
            fresh = model.logits(hidden)[:, :259].log_softmax(-1).gather(1, text[lengths, None])[:, 0]
            worst = max(worst, (fresh - torch.tensor(self.logprobs[name, index])).abs().max().item())
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
    assert exact.engine.scheduler.num_rereads == (3 if kind.startswith("YARN") else 6)
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
def test_bits_are_those_of_fresh_prompts(growing, tokenizer, config):
    """In the batch-invariant mode, beside other requests and after drafts."""
    config = config | {"batch_invariant": True}
    requests = [Request(TEXT[at : at + length], GREEDY) for at, length in enumerate((25, 30, 60, 7))]
    together = play(growing, tokenizer, requests, **config, num_speculative_tokens=3)
    assert together.engine.scheduler.num_rereads == 3
    for request, (tokens, logprobs) in zip(requests, together.answers, strict=True):
        texts = [(*request.tokens, *tokens[:count]) for count in range(0, 20, 3)]
        fresh = play(growing, tokenizer, [Request(text, replace(GREEDY, max_tokens=1)) for text in texts], **config)
        assert fresh.answers == [([tokens[count]], [logprobs[count]]) for count in range(0, 20, 3)]


def test_each_of_several_answers_crosses_at_its_own_step(growing, tokenizer):
    """The prompt is read once with the new state: the second and third answer share its blocks."""
    request = Request(TEXT[:28], replace(SAMPLED, n=3))
    played = Played(LLMEngine(growing, tokenizer, EngineConfig(block_size=8)), [request])
    computed = count_computed(played)
    assert played.distance(growing) < 1e-5
    assert played.engine.scheduler.num_rereads == 3
    assert len({tuple(tokens) for tokens in played.tokens.values()}) == 3
    # the first reads 28 tokens, the others 4 beyond 3 blocks; each computes 19 more; then 33 again, and twice 9 again
    assert computed == 28 + 2 * 4 + 3 * 19 + (33 - 1) + 2 * (33 - 1 - 24)
    assert {usage.cached_tokens for usage in played.usage.values()} == {0, 24}


def count_computed(played: Played) -> int:
    """Run to the end and count the tokens that the network computed."""
    total = 0
    run = played.engine.runner.run

    def counted(chunks):
        nonlocal total
        total += sum(chunk.num_tokens for chunk in chunks)
        return run(chunks)

    played.engine.runner.run = counted
    played.finish()
    return total


def test_a_second_request_finds_the_blocks_of_the_new_state(growing, tokenizer):
    """The blocks of both states are in the prefix cache, and a later turn of the dialogue starts from the new ones."""
    request = Request(TEXT[:28], GREEDY)
    engine = LLMEngine(growing, tokenizer, EngineConfig(block_size=8, batch_invariant=True))
    first = Played(engine, [request])
    assert count_computed(first) == 28 + 19 + 32
    second = Played(engine, [request])
    assert count_computed(second) == 4 + 19 + 0  # 33 tokens: four whole blocks are found, one token is left
    assert second.answers == first.answers and second.usage[second.names[0], 0].cached_tokens == 24
    dialogue = [*TEXT[:28], *first.answers[0][0], 1, 2, 3]
    third = Played(engine, [Request(dialogue, GREEDY)]).finish()
    assert third.usage[third.names[0], 0].cached_tokens == 40  # of 47 that the first answer computed
    assert third.distance(growing) < 1e-5


def test_a_reread_does_not_stop_other_answers(growing, tokenizer):
    """It takes the rest of each step's token budget, so 65 tokens take five steps of 16."""
    engine = LLMEngine(growing, tokenizer, EngineConfig(block_size=8, max_num_batched_tokens=16))
    played = Played(engine, [Request(TEXT[:5], replace(GREEDY, max_tokens=27)), Request(TEXT[1:60], GREEDY)])
    short, long = ((name, 0) for name in played.names)
    while not engine.scheduler.num_rereads:
        played.step()
    assert len(played.tokens[long]) == 6  # 65 tokens
    played.step()
    before = len(played.tokens[short])
    for count in range(1, 4):
        played.step()
        assert len(played.tokens[long]) == 6 and len(played.tokens[short]) == before + count
    played.finish()
    assert played.distance(growing) < 1e-5


def test_a_preemption_in_the_middle_of_a_reread(growing, tokenizer):
    """The newest answer reads again in tiny steps while the older one needs its blocks."""
    requests = [Request(TEXT[:34], replace(GREEDY, max_tokens=34)), Request(TEXT[1:29], replace(GREEDY, max_tokens=12))]
    middle = set()
    for num_blocks in range(20, 26):
        size = {"block_size": 4, "num_blocks": num_blocks, "max_model_len": 72, "max_num_batched_tokens": 4}
        engine = LLMEngine(growing, tokenizer, EngineConfig(**size))
        played = Played(engine, requests)
        while engine.has_work:
            reading = {seq for seq in engine.scheduler.running if seq.num_output_tokens and seq.num_new_tokens > 1}
            played.step()
            middle |= {seq for seq in reading if seq in engine.scheduler.waiting}
        assert [len(tokens) for tokens, _ in played.answers] == [34, 12]
        assert played.distance(growing) < 1e-5
    assert middle


@pytest.mark.parametrize("num_steps", range(4))
def test_an_abort_in_the_middle_of_a_reread_leaves_no_state(growing, tokenizer, num_steps):
    engine = LLMEngine(growing, tokenizer, EngineConfig(block_size=8, max_num_batched_tokens=16))
    played = Played(engine, [Request(TEXT[:60], GREEDY), Request(TEXT[1:9], GREEDY)])
    while not engine.scheduler.num_rereads:
        played.step()
    for _ in range(num_steps):
        played.step()
    engine.abort(played.names[0])
    played.finish()
    assert [len(played.tokens[name, 0]) for name in played.names] == [5, 20]
    assert Played(engine, [Request(TEXT[:60], GREEDY)]).finish().distance(growing) < 1e-5


@pytest.mark.parametrize("draft", ["lookup", "itself", "another"])
def test_drafts_end_where_the_state_ends(growing, tokenizer, draft):
    """A perfect draft model also reads its text again: all its drafts after the change are accepted."""
    drafts = {"lookup": None, "itself": growing, "another": network(seed=3)}
    config = {"num_speculative_tokens": 4, "max_num_batched_tokens": 64}
    requests = [Request([5, 6, 7] * count, GREEDY) for count in (7, 8, 9, 18)]
    played = play(growing, tokenizer, requests, drafts[draft], **config)
    assert played.engine.scheduler.num_rereads == 4
    assert played.distance(growing) < 1e-5
    if draft == "itself":
        [request] = requests[:1]
        engine = LLMEngine(growing, tokenizer, EngineConfig(**config), growing)
        engine.add_request(request)
        sizes = [len(output.token_ids) for _ in range(30) for output in engine.step()]
        assert sizes == [1, 5, 5, 1, 1, 5, 2]  # 21 tokens and 1 + 5 + 5 are 32; after one more it reads again
        assert engine.speculator.blocks.num_free_blocks == engine.speculator.blocks.num_blocks


def test_a_seeded_answer_and_its_scores_are_kept(growing, tokenizer, adapter_folders):
    """What is reported of the prompt stays; text and adapters too."""
    engine = LLMEngine(tiny_model(train_len=TRAINED, use_dynamic_ntk=True), tokenizer, EngineConfig(block_size=8))
    engine.add_adapter("a", adapter_folders["a"])
    request = Request(TEXT[:30], SAMPLED, Context(adapter="a"), score_from=0, pooling="mean")
    outputs = []
    engine.add_request(request)
    while engine.has_work:
        outputs += engine.step()
    assert engine.scheduler.num_rereads == 1
    assert sum(len(output.token_ids) for output in outputs) == 20
    prompt_only = replace(request, params=replace(SAMPLED, max_tokens=0))
    engine.add_request(prompt_only)
    [wanted] = engine.step()
    assert outputs[-1].prompt_logprobs == wanted.prompt_logprobs and len(wanted.prompt_logprobs) == 29
    assert abs(outputs[-1].embedding - wanted.embedding).max() == 0
    plain = LLMEngine(tiny_model(train_len=TRAINED, use_dynamic_ntk=True), tokenizer, EngineConfig(block_size=8))
    ids = [*request.tokens, *(token for output in outputs for token in output.token_ids)]
    plain.add_adapter("a", adapter_folders["a"])
    plain.add_request(Request(ids, replace(SAMPLED, max_tokens=0), Context(adapter="a"), score_from=30 + 19))
    [last] = [output for _ in range(3) for output in plain.step()]
    assert outputs[-1].logprobs[0].logprob == pytest.approx(last.prompt_logprobs[0].logprob, abs=1e-4)


REROTATED = LongContext(on_growth="rerotate")


@pytest.mark.parametrize(("kind", "dtype"), [*zip(NETWORKS, ["auto", "int8", "auto"], strict=True)])
def test_rotated_keys_are_closer_than_those_of_the_prompt(tokenizer, kind, dtype):
    """On these random networks the largest error is 0.05 to 0.15 nats; with the state of the prompt 0.4 to 0.5."""
    model = network(kind)
    requests = [Request(TEXT[at : at + length], SAMPLED) for at, length in enumerate((20, 31, 60, 120))]
    distance = {}
    for how in ("exact", "rerotate", "fixed"):
        extended = [replace(each, extension=LongContext(on_growth=how)) for each in requests]
        played = play(model, tokenizer, extended, kv_cache_dtype=dtype)
        assert (played.engine.scheduler.num_rereads > 0) == (how == "exact")
        distance[how] = played.distance(model)
    assert distance["exact"] < distance["rerotate"] < 0.2
    assert 3 * distance["rerotate"] < distance["fixed"]


def test_rotated_keys_of_a_network_with_one_layer_are_exact(tokenizer):
    """Its keys come from embeddings, so they differ by the rotation alone. Shared blocks are copied first."""
    model = tiny_model(num_hidden_layers=1, train_len=TRAINED, use_dynamic_ntk=True, initializer_range=0.1)
    request = Request(TEXT[:28], replace(SAMPLED, n=3, max_tokens=40), extension=REROTATED)
    for config in ({}, {"num_speculative_tokens": 3}, {"num_blocks": 50, "max_model_len": 160, "block_size": 4}):
        played = play(model, tokenizer, [request, Request(TEXT[:40], SAMPLED), request], **config)
        assert played.distance(model) < 1e-5


def test_rotated_blocks_are_shared_with_nobody(growing, tokenizer):
    """They leave the prefix cache; the blocks of the prompt are copied while another answer uses them."""
    engine = LLMEngine(growing, tokenizer, EngineConfig(block_size=8))
    prompt = Request(TEXT[:28], replace(GREEDY, max_tokens=3))
    before = Played(engine, [prompt]).finish()
    Played(engine, [replace(prompt, params=replace(GREEDY, n=2), extension=REROTATED)]).finish()
    again = Played(engine, [prompt, Request(TEXT[:28], GREEDY)]).finish()
    assert again.answers[0][0] == before.answers[0][0] and again.distance(growing) < 1e-5
    pool = engine.blocks.pools[0]
    assert set(pool.block_of.values()) == {block for block, text in enumerate(pool.hash_of) if text}


def test_without_blocks_for_the_copies_the_text_is_read_again(growing, tokenizer):
    engine = LLMEngine(growing, tokenizer, EngineConfig(block_size=8, num_blocks=7, max_model_len=48))
    request = Request(TEXT[:24], replace(GREEDY, max_tokens=12, n=2), extension=REROTATED)
    played = Played(engine, [request]).finish()
    assert engine.scheduler.num_rereads or engine.scheduler.num_preemptions
    assert [len(tokens) for tokens, _ in played.answers] == [12, 12]


def test_impossible_combinations_are_refused(growing, tokenizer):
    invariant = LLMEngine(growing, tokenizer, EngineConfig(batch_invariant=True))
    with pytest.raises(RequestError, match="rerotate is not possible in the batch-invariant mode"):
        invariant.add_request(Request(TEXT[:5], GREEDY, extension=REROTATED))
    engine = LLMEngine(growing, tokenizer)
    with pytest.raises(RequestError, match="already has the rope state yarn"):
        engine.add_request(Request(TEXT[:5], GREEDY, Context(rope=YARN), extension=LongContext(rope="none")))
    assert not engine.has_work and not invariant.has_work
    with pytest.raises(ConfigError, match="rerotate is not possible"):
        LLMEngine(growing, tokenizer, EngineConfig(batch_invariant=True, extension=REROTATED))


def test_a_state_of_the_context_never_changes(growing, tokenizer):
    played = play(growing, tokenizer, [Request(TEXT[:28], GREEDY, Context(rope=RopeState(logn_len=TRAINED)))])
    fixed = play(growing, tokenizer, [Request(TEXT[:28], GREEDY, extension=LongContext(on_growth="fixed"))])
    assert played.answers == fixed.answers and not played.engine.scheduler.num_rereads
