import dataclasses

import pytest
import torch

from qianwen.model import ContiguousCache, Qwen, QwenConfig
from qianwen.model.long_context import TokenRopes, rope_state
from qianwen.model.rope_state import RopeState
from qianwen.runtime.errors import RequestError

CONFIG = QwenConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=4096,
)
LONG = dataclasses.replace(CONFIG, train_len=2048, use_dynamic_ntk=True, use_logn_attn=True)


def build(config=CONFIG):
    return Qwen(config).init_weights(0).eval()


def cached(model, ids, chunks, cache):
    """Hidden states of `ids` read in `chunks`, the rest token by token."""
    chunks = [*chunks, *[1] * (ids.size(1) - sum(chunks))]
    return torch.cat([model(piece, cache=cache) for piece in ids.split(chunks, dim=1)], dim=1)


@pytest.mark.parametrize("chunks", [[], [50], [20, 1, 13], [7, 43], [60]])
@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        dataclasses.replace(CONFIG, num_key_value_heads=4, head_dim=8),
        dataclasses.replace(CONFIG, qkv_bias=False, qk_norm=True, head_dim=32, num_key_value_heads=1),
        dataclasses.replace(CONFIG, layer_windows=(5, 16, 0)),
        dataclasses.replace(CONFIG, train_len=16, use_logn_attn=True),
    ],
    ids=["gqa", "mha", "qwen3", "windows", "logn"],
)
@torch.no_grad()
def test_cached_equals_the_full_forward(config, chunks):
    model, ids = build(config), torch.randint(96, (2, 60))
    full = model(ids)
    hidden = cached(model, ids, chunks, ContiguousCache(config, batch_size=2))
    torch.testing.assert_close(hidden, full, rtol=1e-5, atol=1e-5)
    assert torch.equal(model.logits(hidden).argmax(-1), model.logits(full).argmax(-1))


@torch.no_grad()
def test_a_truncated_cache_can_continue_with_other_tokens():
    model, ids, other = build(), torch.randint(96, (1, 40)), torch.randint(96, (1, 15))
    cache = ContiguousCache(CONFIG)
    model(ids, cache=cache)
    cache.truncate(25)
    continued = model(other, cache=cache)
    full = model(torch.cat((ids[:, :25], other), dim=1))
    torch.testing.assert_close(continued, full[:, 25:], rtol=1e-5, atol=1e-5)
    assert cache.length == 40


@torch.no_grad()
def test_greedy_tokens_are_the_same_with_and_without_a_cache():
    model, ids = build(), torch.randint(96, (100, 12))
    cache = ContiguousCache(CONFIG, batch_size=100, max_len=32)
    step = ids
    for _ in range(12):
        step = model.logits(model(step, cache=cache)[:, -1:]).argmax(-1)
        assert torch.equal(step, model.logits(model(ids)[:, -1:]).argmax(-1))
        ids = torch.cat((ids, step), dim=1)


@torch.no_grad()
def test_the_rope_of_the_prompt_is_kept_across_a_boundary():
    """A prompt of 2,045 tokens grows past 2,048: its rotary base stays, as in a full forward with this base."""
    model, ids = build(LONG), torch.randint(96, (1, 2053))
    cache = ContiguousCache(LONG)
    hidden = cached(model, ids, [2045], cache)
    assert cache.rope == rope_state(LONG, 2045) == RopeState(logn_len=2048)
    unstretched = Qwen(dataclasses.replace(LONG, use_dynamic_ntk=False)).eval()
    unstretched.load_state_dict(model.state_dict())
    torch.testing.assert_close(hidden, unstretched(ids), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(hidden, model(ids), atol=1e-3)  # which stretches the whole text by 3


@torch.no_grad()
def test_a_long_prompt_has_the_same_rope_in_any_chunks():
    model, ids = build(LONG), torch.randint(96, (1, 2055))
    full = model(ids)
    cache = ContiguousCache(LONG)
    torch.testing.assert_close(cached(model, ids, [2050], cache), full, rtol=1e-5, atol=1e-5)
    assert cache.rope == RopeState(method="dynamic_ntk", factor=3, logn_len=2048)
    in_chunks = ContiguousCache(LONG, rope=rope_state(LONG, 2055))
    torch.testing.assert_close(cached(model, ids, [1000, 1000, 50], in_chunks), full, rtol=1e-5, atol=1e-5)
    assert in_chunks.rope == cache.rope


@torch.no_grad()
def test_requests_do_not_disturb_each_other():
    """Two generations with different rotary states run alternately on one model."""
    config = dataclasses.replace(LONG, train_len=16)
    model, short, long = build(config), torch.randint(96, (1, 20)), torch.randint(96, (1, 45))
    ropes = rope_state(config, 10), rope_state(config, 40)
    caches = [ContiguousCache(config, rope=rope) for rope in ropes]
    pairs = zip((short, long), ropes, strict=True)
    alone = [cached(model, ids, [10], ContiguousCache(config, rope=rope)) for ids, rope in pairs]
    turns = [[], []]
    for step in range(45):
        for ids, cache, out in zip((short, long), caches, turns, strict=True):
            if step < ids.size(1):
                out.append(model(ids[:, step : step + 1], cache=cache))
    assert [rope.factor for rope in ropes] == [1, 7]
    for together, by_itself in zip(turns, alone, strict=True):
        torch.testing.assert_close(torch.cat(together, dim=1), by_itself, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_one_row_of_tokens_can_have_several_ropes():
    """As in a paged cache: several states, and the index of the state of each token."""
    model = build(LONG)
    positions = torch.tensor([[3000, 5, 100]])
    states = tuple(RopeState(method="dynamic_ntk", factor=alpha, logn_len=2048) for alpha in (1, 3, 7))
    mixed = model.model.rotary(positions, TokenRopes(states, torch.tensor([[1, 0, 2]])))
    for column, state in enumerate((states[1], states[0], states[2])):
        alone = model.model.rotary(positions[:, column : column + 1], state)
        assert torch.equal(mixed.q[0][:, column], alone.q[0][:, 0]) and torch.equal(
            mixed.k[1][:, column], alone.k[1][:, 0]
        )


def test_growth_doubles_up_to_the_limit():
    cache = ContiguousCache(CONFIG, max_len=700)
    sizes = []
    for count in (10, 300, 90, 300):
        cache.reserve(count)
        sizes.append(cache.slab.size(4))
    assert sizes == [256, 512, 512, 700]


def test_exceeding_the_context_is_an_error_and_keeps_the_cache():
    model, cache = build(), ContiguousCache(CONFIG, max_len=10)
    with torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.long), cache=cache)
        with pytest.raises(RequestError, match="11 tokens do not fit the context of 10") as caught:
            model(torch.zeros(1, 3, dtype=torch.long), cache=cache)
        assert caught.value.code == "context_length_exceeded"
        model(torch.zeros(1, 2, dtype=torch.long), cache=cache)
    assert cache.length == 10


def test_the_cache_records_no_gradients():
    model, cache = build(), ContiguousCache(CONFIG)
    model(torch.zeros(1, 4, dtype=torch.long), cache=cache)
    assert not cache.slab.requires_grad
