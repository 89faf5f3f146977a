import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from qianwen.model import attention
from qianwen.model.attention import GRAIN, DocumentAttention, attend
from qianwen.model.config import QwenConfig


def tensors(num_queries, num_keys, rows=2, heads=4, kv_heads=2, dim=8):
    q = torch.randn(rows, num_queries, heads, dim, dtype=torch.double, requires_grad=True)
    k = torch.randn(rows, num_keys, kv_heads, dim, dtype=torch.double, requires_grad=True)
    v = torch.randn(rows, num_keys, kv_heads, dim, dtype=torch.double, requires_grad=True)
    return q, k, v


def reference(q, k, v, window):
    """The reference: all scores and one mask."""
    k, v = (x.repeat_interleave(q.size(2) // k.size(2), dim=2) for x in (k, v))
    scores = torch.einsum("bthd,bshd->bhts", q, k) / q.size(-1) ** 0.5
    back = torch.arange(q.size(1))[:, None] + k.size(1) - q.size(1) - torch.arange(k.size(1))
    hidden = (back < 0) | (back >= window) if window else back < 0
    return torch.einsum("bhts,bshd->bthd", scores.masked_fill(hidden, -torch.inf).softmax(-1), v)


def test_importing_attention_changes_no_torch_settings():
    assert torch.backends.cuda.cudnn_sdp_enabled()


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(attention, "BLOCK", 8)


SHAPES = [(1, 1), (20, 20), (1, 20), (5, 20), (19, 20), (33, 40), (8, 8), (9, 9)]


@pytest.mark.parametrize("window", [0, 1, 3, 8, 19, 20, 100])
@pytest.mark.parametrize(("num_queries", "num_keys"), SHAPES)
def test_every_shape_equals_the_dense_reference(small_blocks, num_queries, num_keys, window):
    q, k, v = tensors(num_queries, num_keys)
    out, expected = attend(q, k, v, window), reference(q, k, v, window)
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-10)
    upstream = torch.randn_like(out)
    for ours, theirs in zip(
        torch.autograd.grad(out, (q, k, v), upstream), torch.autograd.grad(expected, (q, k, v), upstream), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(0, 40), st.integers(0, 50), st.sampled_from([(1, 1), (4, 1), (6, 3), (4, 4)]))
def test_any_lengths_window_and_grouping_equal_the_reference(num_queries, past, window, heads):
    q, k, v = tensors(num_queries, num_queries + past, 1, *heads)
    torch.testing.assert_close(attend(q, k, v, window), reference(q, k, v, window), rtol=1e-10, atol=1e-10)


class LargestTensor(TorchDispatchMode):
    """The number of elements of the largest tensor any operation returns."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.numel = max(self.numel, tensor.numel())
        return out


@pytest.mark.parametrize(("num_queries", "num_keys", "window"), [(2500, 2500, 0), (2500, 2500, 300), (2500, 5000, 0)])
def test_no_square_tensor_is_built_above_2048(num_queries, num_keys, window):
    q, k, v = (torch.randn(1, n, 1, 8, requires_grad=True) for n in (num_queries, num_keys, num_keys))
    with LargestTensor() as largest:
        attend(q, k, v, window).sum().backward()
    assert largest.numel <= attention.BLOCK * num_keys < 2048 * 2048


def test_tokens_before_the_window_have_no_effect():
    q, k, v = tensors(6, 30)
    changed = k.detach().clone()
    changed[:, :20] = 1e3
    assert torch.equal(attend(q, k, v, 5)[:, -1], attend(q, changed, v, 5)[:, -1])


class Kernels(TorchDispatchMode):
    """How many queries and keys each attention kernel takes."""

    def __init__(self):
        super().__init__()
        self.found = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        if "scaled_dot_product" in str(func):
            self.found |= {args[0].size(2), args[1].size(2)}
        return func(*args, **(kwargs or {}))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=2, max_size=12), st.sampled_from([0, 3, 70]))
def test_packed_documents_have_few_sizes_and_do_not_see_each_other(lengths, window):
    config = QwenConfig(
        vocab_size=8, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        layer_windows=(window,),
    )  # fmt: skip
    q, k, v = (torch.randn(1, sum(lengths), 2, 8) for _ in range(3))
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    with Kernels() as kernels:
        out = DocumentAttention(config, sum(lengths), positions, stretch=False).attend(0, q, k, v)
    if len(set(lengths)) > 1 and not window:
        assert all(size % GRAIN == 0 for size in kernels.found)
    alone = [attend(*parts, window=window) for parts in zip(*(x.split(lengths, 1) for x in (q, k, v)), strict=True)]
    torch.testing.assert_close(out, torch.cat(alone, 1))
