from collections import Counter

import numpy as np
import pytest

from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.engine.sampling import Distribution
from qianwen.engine.sampling_params import SamplingParams
from qianwen.engine.speculate import DraftModel, _NgramIndex, can_guess, verify
from qianwen.runtime.errors import ConfigError

from .conftest import tiny_model
from .test_block_manager import new_sequence

PROMPTS = ["abcabcabcabc", "hello hello hello", "x", "the end of the end of the"]
DRAFTS = {"lookup": None, "itself": 0, "another": 3}


def speculating(model, tokenizer, seed, **config) -> LLM:
    draft = None if seed is None else tiny_model(seed)
    return LLM(model, tokenizer, EngineConfig(num_speculative_tokens=4, block_size=8, **config), draft_model=draft)


@pytest.mark.parametrize("seed", DRAFTS.values(), ids=DRAFTS)
def test_greedy_answers_are_the_same_with_drafts(model, tokenizer, greedy, seed):
    llm = speculating(model, tokenizer, seed)
    params = SamplingParams(temperature=0, max_tokens=40, ignore_eos=True)
    for _ in range(2):
        results = llm.generate(PROMPTS, params)
        assert [result.outputs[0].token_ids for result in results] == [greedy(list(p.encode()), 40) for p in PROMPTS]
    assert llm.engine.blocks.num_free_blocks == llm.engine.blocks.num_blocks
    if seed is not None:
        drafts = llm.engine.speculator
        assert isinstance(drafts, DraftModel) and not drafts._shadows
        assert drafts.blocks.num_free_blocks == drafts.blocks.num_blocks


def test_a_perfect_draft_saves_steps(model, tokenizer):
    llm = speculating(model, tokenizer, 0)
    pieces = list(llm.stream("x", SamplingParams(temperature=0, max_tokens=41, ignore_eos=True)))
    assert [len(piece.token_ids) for piece in pieces] == [1, *[5] * 8]


def test_few_blocks_and_small_budgets(model, tokenizer, greedy):
    llm = speculating(model, tokenizer, 3, num_blocks=16, max_model_len=100, max_num_batched_tokens=6)
    params = SamplingParams(temperature=0, max_tokens=50, ignore_eos=True)
    results = llm.generate(PROMPTS * 2, params)
    want = [greedy(list(p.encode()), 50) for p in PROMPTS] * 2
    assert [result.outputs[0].token_ids for result in results] == want


@pytest.mark.parametrize("filters", [{}, {"top_k": 6}, {"top_p": 0.7, "temperature": 1.5}, {"logit_bias": {3: 2.0}}])
@pytest.mark.parametrize("kind", ["lookup", "draft"])
def test_verify_keeps_the_distribution(kind, filters):
    """Two draft tokens over a vocabulary of ten, 3,000 times: the first two tokens have the right distribution."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((3, 10)).astype(np.float32) * 1.5
    guess_rows = (rows[:2] + rng.standard_normal((2, 10)) * 0.7).astype(np.float32)
    params = SamplingParams(seed=1, **filters)
    seq = new_sequence([1])
    seq.sampler.__init__(params, [1])
    adjusted = [seq.sampler.adjust(row) for row in rows]
    want = [np.array([Distribution(row, params).prob(token) for token in range(10)]) for row in adjusted]
    first, second = Counter(), Counter()
    for _ in range(3000):
        if kind == "lookup":
            seq.draft, seq.draft_dists = [2, 5], []
        else:
            seq.draft_dists = [Distribution(row, params) for row in guess_rows]
            seq.draft = [dist.draw(seq.sampler.random.random()) for dist in seq.draft_dists]
        tokens = [token for token, _ in verify(rows, seq)]
        first[tokens[0]] += 1
        if tokens[0] == seq.draft[0]:
            second[tokens[1]] += 1
    got = np.array([first[token] for token in range(10)]) / 3000
    np.testing.assert_allclose(got, want[0], atol=0.04)
    if second.total() > 300:
        got = np.array([second[token] for token in range(10)]) / second.total()
        np.testing.assert_allclose(got, want[1], atol=0.1)


def test_sampled_text_has_the_same_distribution(tokenizer):
    """With the full engine: the third token after a fixed prompt."""
    model = tiny_model(initializer_range=0.15)
    params = SamplingParams(n=128, max_tokens=3, top_k=4, temperature=0.7, ignore_eos=True)

    def third_tokens(llm: LLM) -> Counter:
        results = [llm.generate(["abab"], params)[0] for _ in range(6)]
        return Counter(answer.token_ids[2] for result in results for answer in result.outputs)

    plain = third_tokens(LLM(model, tokenizer, EngineConfig(max_num_seqs=64)))
    draft = tiny_model(7, initializer_range=0.15)
    config = EngineConfig(max_num_seqs=64, num_speculative_tokens=3)
    guessed = third_tokens(LLM(model, tokenizer, config, draft_model=draft))
    total = plain.total()
    for token in plain | guessed:
        spread = (max(plain[token], guessed[token]) * 2) ** 0.5
        assert abs(plain[token] - guessed[token]) < 4 * spread + 4, (token, plain[token], guessed[token], total)


def test_prompt_lookup_copies_and_adapts_the_draft_length():
    index = _NgramIndex((3, 2), max_tokens=8)
    tokens = [1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3]
    assert index.draft(tokens) == [4, 5, 6, 7]
    index.last_draft = [4, 5, 6, 7]
    tokens += [4, 5, 6, 7, 8]
    assert index.draft(tokens) == [9, 1, 2, 3, 4, 5, 6, 7] and index.draft_len == 8
    index.last_draft = [9, 1, 2]
    tokens += [9, 0]
    assert index.draft(tokens) == [] and index.draft_len == 2


def test_requests_with_penalties_get_no_draft():
    for params in (SamplingParams(repetition_penalty=1.1), SamplingParams(presence_penalty=1)):
        seq = new_sequence([1])
        seq.params = params
        assert not can_guess(seq)


def test_a_draft_of_another_vocabulary_is_refused(model, tokenizer):
    with pytest.raises(ConfigError, match="vocabulary"):
        LLM(model, tokenizer, EngineConfig(num_speculative_tokens=2), draft_model=tiny_model(vocab_size=100))
