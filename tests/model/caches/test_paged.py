"""R24: the paged cache gives the result of a full forward for any chunks of tokens."""

import numpy as np
import pytest
import torch

from qianwen.model.caches.contiguous import ContiguousCache
from qianwen.model.caches.paged import ABSENT, PagedCache
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import rope_state
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen

SHAPE = {
    "vocab_size": 64,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
}
KINDS = {
    "plain": {},
    "windows": {"layer_windows": (5, 33, 0)},
    "NTK and LogN": {"train_len": 40, "use_dynamic_ntk": True, "use_logn_attn": True},
    "Qwen3": {"qk_norm": True, "qkv_bias": False, "head_dim": 20},
}


def build(kind: str) -> Qwen:
    return Qwen(QwenConfig(**(SHAPE | KINDS[kind]))).init_weights(1).eval()


def tables(lengths: list[int], block_size: int, rng: np.random.Generator) -> list[list[int]]:
    """Blocks in random order."""
    blocks = iter(rng.permutation(sum(-(-length // block_size) for length in lengths)).tolist())
    return [[next(blocks) for _ in range(-(-length // block_size))] for length in lengths]


@torch.inference_mode()
@pytest.mark.parametrize("is_invariant", [False, True])
@pytest.mark.parametrize("block_size", [4, 16])
@pytest.mark.parametrize("kind", KINDS)
def test_any_mixture_of_chunks_equals_the_full_forward(kind, block_size, is_invariant):
    rng = np.random.default_rng(0)
    model, lengths = build(kind), [90, 3, 41, 1, 60]
    texts = [torch.from_numpy(rng.integers(0, 64, length)) for length in lengths]
    want = []
    for text in texts:
        want.append(model(text[None])[0])
    cache = PagedCache(model.config, 60, block_size, is_invariant=is_invariant)
    table = tables(lengths, block_size, rng)
    ropes = [rope_state(model.config, length) for length in lengths]
    done = [0] * len(lengths)
    got: list[list[torch.Tensor]] = [[] for _ in lengths]
    while any(count < length for count, length in zip(done, lengths, strict=True)):
        chosen = [i for i in range(len(lengths)) if done[i] < lengths[i] and rng.random() < 0.8]
        sizes = [min(int(rng.choice([1, 1, 7, 30])), lengths[i] - done[i]) for i in chosen]
        if not chosen:
            continue
        ends = np.array([done[i] + size for i, size in zip(chosen, sizes, strict=True)])
        blocks = [[table[i] for i in chosen]] * cache.num_kinds
        positions = cache.begin(blocks, ends, np.array(sizes), [ropes[i] for i in chosen])
        ids = torch.cat([texts[i][done[i] : done[i] + size] for i, size in zip(chosen, sizes, strict=True)])
        hidden = model(ids[None], torch.from_numpy(positions)[None], cache)[0]
        for i, part in zip(chosen, hidden.split(sizes), strict=True):
            got[i].append(part)
            done[i] += len(part)
    for parts, full in zip(got, want, strict=True):
        torch.testing.assert_close(torch.cat(parts), full, atol=2e-5, rtol=1e-4)


@torch.inference_mode()
def test_a_generation_across_a_doubling_keeps_its_rope():
    """Keys are stored with rotation, so the state of the prompt stays, as in the contiguous cache."""
    model = build("NTK and LogN")
    text = torch.arange(90) % 64
    contiguous = ContiguousCache(model.config)
    want = [model(text[None, :70], cache=contiguous)[0]]
    want += [model(text[None, at : at + 1], cache=contiguous)[0] for at in range(70, 90)]
    assert contiguous.rope == rope_state(model.config, 70) != rope_state(model.config, 90)
    paged = PagedCache(model.config, 12, 8)
    got = []
    for start, end in [(0, 50), (50, 70), *((at, at + 1) for at in range(70, 90))]:
        blocks, lengths = [[list(range(12))]], (np.array([end]), np.array([end - start]))
        positions = paged.begin(blocks, *lengths, [rope_state(model.config, 70)])
        got.append(model(text[None, start:end], torch.from_numpy(positions)[None], paged)[0])
    torch.testing.assert_close(torch.cat(got), torch.cat(want), atol=2e-5, rtol=1e-4)


@torch.inference_mode()
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_rerotated_keys_of_the_first_layer_are_those_of_the_new_state(dtype):
    """The first layer's keys do not depend on the state, except for their rotation."""
    model, text = build("windows"), torch.arange(40)[None]
    before = RopeState(method="dynamic_ntk", factor=3, logn_len=40)
    after = RopeState(method="yarn", factor=4, original_len=20)
    table, target = [5, 1, ABSENT, 3, 0], [5, 7, ABSENT, 3, 6]

    def read(rope: RopeState) -> PagedCache:
        cache = PagedCache(model.config, 8, 8, dtype=dtype)
        positions = cache.begin([[[5, 1, 4, 3, 0]]] * 3, np.array([40]), np.array([40]), [rope])
        model(text, torch.from_numpy(positions)[None], cache)
        return cache

    cache, wanted = read(before), read(after)
    untouched = cache.pages[0][0].clone()
    cache.rerotate([table] * 3, [target] * 3, before, after)
    for kind in range(3):
        k, v = cache.pages[kind][0]
        old_k, _ = wanted.pages[kind][0]
        for source, place in zip(table, target, strict=True):
            if source != ABSENT:
                torch.testing.assert_close(v[place], untouched[1][source] if kind == 0 else v[source])
            if source != ABSENT and kind == 0:
                tolerance = 1e-5 if dtype == torch.float32 else 0.02
                torch.testing.assert_close(k[place], old_k[source], atol=tolerance, rtol=tolerance)
    k, v = cache.pages[0][0]
    for kept in (1, 0, 4, 2):  # sources that were copied, and blocks of others
        assert torch.equal(k[kept], untouched[0][kept]) and torch.equal(v[kept], untouched[1][kept])


@torch.inference_mode()
def test_padding_changes_no_block():
    model = build("plain")
    text = torch.arange(9)[None]
    cache = PagedCache(model.config, 4, 4)
    cache.begin([[[2, 0, 3]]], np.array([9]), np.array([9]))
    want = model(text, torch.arange(9)[None], cache)
    pages = cache.pages[0][:, :, :4].clone()
    positions = cache.begin([[[]] * 5], np.ones(5, int), np.ones(5, int))
    model(torch.zeros(1, 5, dtype=torch.long), torch.from_numpy(positions)[None], cache)
    assert torch.equal(cache.pages[0][:, :, :4], pages)
    cache.begin([[[2, 0, 3]]], np.array([9]), np.array([1]))
    last = model(text[:, 8:], torch.tensor([[8]]), cache)
    torch.testing.assert_close(last[0, 0], want[0, 8], atol=1e-5, rtol=1e-4)


@torch.inference_mode()
def test_the_kernel_gets_its_arguments():
    config = QwenConfig(**(SHAPE | {"layer_windows": (5, 0, 0)}))
    seen = []

    def kernel(q, k_pages, v_pages, block_tables, context_lens, query_lens, scale, window):
        seen.append((q.shape, k_pages.shape, block_tables.tolist(), context_lens.tolist(), query_lens.tolist(), window))
        return torch.zeros_like(q)

    model = Qwen(config).init_weights(0).eval()
    cache = PagedCache(config, [5, 8], 4, kernel=kernel)
    positions = cache.begin([[[3], [ABSENT, 2]], [[7], [1, 2]]], np.array([3, 6]), np.array([3, 1]))
    assert positions.tolist() == [0, 1, 2, 5]
    model(torch.zeros(1, 4, dtype=torch.long), torch.from_numpy(positions)[None], cache)
    assert seen[0] == ((4, 4, 12), (6, 4, 2, 12), [[3, 5], [5, 2]], [3, 6], [3, 1], 5)
    assert seen[1] == seen[2] == ((4, 4, 12), (9, 4, 2, 12), [[7, 8], [1, 2]], [3, 6], [3, 1], None)


@torch.inference_mode()
def test_a_bf16_cache_is_precise_enough():
    model, text = build("plain"), (torch.arange(60) * 7 % 64)[None]
    cache = PagedCache(model.config, 4, 16, dtype=torch.bfloat16)
    positions = cache.begin([[[0, 1, 2, 3]]], np.array([60]), np.array([60]))
    got = model(text, torch.from_numpy(positions)[None], cache)
    cache.begin([[[0, 1, 2, 3]]], np.array([60]), np.array([1]))
    last = model(text[:, 59:], torch.tensor([[59]]), cache)
    torch.testing.assert_close(got, model(text), atol=0.05, rtol=0.05)
    torch.testing.assert_close(last[:, -1], got[:, -1], atol=1e-4, rtol=1e-3)


def test_untouched_blocks_take_no_memory():
    from qianwen.runtime.device import memory_in_use_bytes

    before = memory_in_use_bytes()
    cache = PagedCache(QwenConfig(**SHAPE), 100_000, 32, dtype=torch.bfloat16)
    assert cache.num_bytes > 9e8 and memory_in_use_bytes() - before < 50e6
