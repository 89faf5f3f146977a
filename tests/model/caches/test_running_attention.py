"""A running softmax over spans of keys is attention over all of them, and no more than a span is gathered."""

import numpy as np
import pytest
import torch

from qianwen.model.attention import attend
from qianwen.model.caches import parts
from qianwen.model.caches.int8 import Int8PagedCache
from qianwen.model.caches.paged import PagedCache
from qianwen.model.caches.running_attention import RunningAttention
from qianwen.model.config import QwenConfig
from qianwen.model.rope_state import RopeState

SHAPE = QwenConfig(
    vocab_size=8, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=32768, layer_windows=(0, 700),
)  # fmt: skip


@pytest.mark.parametrize("window", [0, 1, 9, 40, 1000])
@pytest.mark.parametrize(("num_queries", "num_keys"), [(1, 70), (30, 70), (70, 70), (300, 300)])
@pytest.mark.parametrize("span", [7, 64, 1000])
def test_spans_of_any_size_give_the_attention_of_all_keys(window, num_queries, num_keys, span):
    generator = torch.Generator().manual_seed(num_keys + span)
    q = torch.randn(num_queries, 4, 8, generator=generator)
    k, v = torch.randn(2, num_keys, 2, 8, generator=generator) * 3
    attention = RunningAttention(q, 2, num_keys - num_queries, window)
    for first in range(0, num_keys, span):
        attention.add(k[first : first + span], v[first : first + span], first)
    expected = attend(q[None], k[None], v[None], window)[0]
    torch.testing.assert_close(attention.result(), expected, rtol=1e-5, atol=1e-5)


class Watched:
    """Records the number of tokens that each call of `gather` returns."""

    def gather(self, layer, part, dtype):
        k, v = super().gather(layer, part, dtype)
        self.sizes.append(k.size(0) * k.size(1))
        return k, v


class WatchedCache(Watched, PagedCache):
    pass


class WatchedInt8Cache(Watched, Int8PagedCache):
    pass


@torch.inference_mode()
@pytest.mark.parametrize(
    ("dtype", "of_queries", "error"),
    [
        (torch.float32, torch.float32, 1e-4),
        (torch.bfloat16, torch.float32, 1e-4),
        (torch.bfloat16, torch.bfloat16, 1e-2),  # the whole is rounded to bf16 at other places
        (torch.uint8, torch.float32, 1e-4),
    ],
)
def test_a_chunk_after_20_000_tokens_gathers_spans_and_equals_the_whole(dtype, of_queries, error, monkeypatch):
    length, chunk, size = 20_000, 40, 32
    generator = torch.Generator().manual_seed(0)
    keys = torch.randn(2, 2, 1, length, 2, 8, generator=generator)  # for each layer k and v
    queries = torch.randn(1, chunk, 4, 8, generator=generator)
    rope = RopeState(method="dynamic_ntk", factor=3)

    def outputs(span: int) -> tuple[list[torch.Tensor], list[int]]:
        monkeypatch.setattr(parts, "SPAN", span)
        count = -(-length // size)
        if dtype is torch.uint8:
            cache = WatchedInt8Cache(SHAPE, count, size)
        else:
            cache = WatchedCache(SHAPE, count, size, dtype=dtype)
        cache.sizes, results = [], []
        table = [[list(range(count))[::-1]]] * 2
        for start, stop in ((0, length - chunk), (length - chunk, length)):
            cache.begin(table, np.array([stop]), np.array([stop - start]), [rope])
            for layer in range(2):
                k, v = keys[layer, :, :, start:stop]
                if start == 0:
                    cache.store(layer, k[0], v[0])
                else:
                    results.append(cache.attend(layer, queries.to(of_queries), k, v))
        return results, cache.sizes

    (whole, sizes), (spans, spans_sizes) = outputs(1 << 20), outputs(2048)
    assert max(sizes) >= length and all(result.dtype == of_queries for result in spans)
    assert max(spans_sizes) <= 2048
    assert sum(spans_sizes) <= length + size + 2 * 2048  # all keys in one layer, those of the window in the other
    for expected, result in zip(whole, spans, strict=True):
        torch.testing.assert_close(result, expected, rtol=error, atol=error)
