"""The kernels for training in bfloat16, against PyTorch in float64 and beside its own bfloat16."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu import training
from qianwen.kernels.cpu.build import family
from qianwen.model import PRESETS, Qwen
from qianwen.model.loss import chunked_cross_entropy

pytestmark = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")

CASES = {  # query heads, key/value heads, head_dim, lengths of the documents, window
    "one block": (1, 1, 32, [64], 0),
    "two documents in one block": (2, 2, 64, [40, 24], 0),
    "documents across blocks": (6, 2, 64, [30, 300, 70, 112], 0),
    "no whole block": (4, 2, 128, [10, 100, 91], 0),
    "a window": (4, 4, 96, [500, 12], 100),
    "single tokens": (2, 1, 32, [1, 1, 62, 64, 1, 191], 0),
    "heads of no whole step": (3, 3, 20, [50, 30], 0),
}


def first_seen(lengths: list[int], window: int) -> Tensor:
    first = torch.tensor([sum(lengths[:i]) for i, length in enumerate(lengths) for _ in range(length)])
    return (first.maximum(torch.arange(len(first)) - window + 1) if window else first).int()


def by_torch(q: Tensor, k: Tensor, v: Tensor, first: Tensor) -> Tensor:
    at = torch.arange(len(q))
    visible = (at <= at[:, None]) & (at >= first[:, None])
    q, k, v = (x.transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, visible, enable_gqa=True)[0].transpose(0, 1)


def error(a: Tensor, b: Tensor) -> float:
    return ((a.double() - b).norm() / b.norm()).item()


@pytest.mark.parametrize("case", CASES)
def test_attention_and_its_gradients_are_as_near_as_torch_in_the_same_type(case: str) -> None:
    heads, kv_heads, dim, lengths, window = CASES[case]
    first = first_seen(lengths, window)
    inputs = [torch.randn(len(first), n, dim).bfloat16() for n in (heads, kv_heads, kv_heads)]
    upstream = torch.randn(len(first), heads, dim).bfloat16()

    def run(attend, dtype: torch.dtype) -> list[Tensor]:
        leaves = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = attend(*leaves, first)
        return [out, *torch.autograd.grad(out, leaves, upstream.to(dtype))]

    exact = run(by_torch, torch.double)
    ours, theirs = run(training.attend_documents, torch.bfloat16), run(by_torch, torch.bfloat16)
    for a, b, c in zip(ours, theirs, exact, strict=True):
        assert error(a, c) < 1.25 * error(b, c) + 1e-3


def test_a_document_does_not_feel_what_stands_beside_it() -> None:
    q, k, v = torch.randn(3, 256, 4, 64).bfloat16()
    first = first_seen([100, 90, 66], 0)
    out = training.attend_documents(q, k, v, first)
    others = [torch.cat([torch.randn_like(x[:100]), x[100:190], torch.randn_like(x[190:])]) for x in (q, k, v)]
    assert torch.equal(training.attend_documents(*others, first)[100:190], out[100:190])


def test_heads_that_lie_apart_and_any_number_of_threads_change_no_bit() -> None:
    first = first_seen([200, 120, 64], 0)

    def run() -> list[Tensor]:
        torch.manual_seed(0)
        stacked = torch.randn(384, 6, 64).bfloat16().requires_grad_()
        out = training.attend_documents(stacked[:, :2], stacked[:, 2:4], stacked[:, 4:], first)
        return [out, *torch.autograd.grad(out, stacked, torch.randn_like(out))]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = run()
        torch.set_num_threads(2)
        assert all(map(torch.equal, run(), alone))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("vocab_size", [5, 16, 1000, 16387])
def test_softmax_loss_and_gradient(vocab_size: int) -> None:
    scores, targets = 3 * torch.randn(6, vocab_size).bfloat16(), torch.randint(0, vocab_size, (6,))
    targets[2] = -100
    exact = scores.double().requires_grad_()
    expected = F.cross_entropy(exact, targets, ignore_index=-100, reduction="none")
    losses = training.softmax_loss_(scores, targets)
    torch.testing.assert_close(losses, expected.float(), rtol=1e-5, atol=1e-5)
    gradient = torch.autograd.grad(expected.sum(), exact)[0].float()
    torch.testing.assert_close(scores.float(), gradient, rtol=2**-8, atol=1e-6)


@pytest.mark.parametrize("strange", [float("nan"), float("inf")])
def test_scores_that_are_no_numbers_make_a_loss_that_is_none(strange: float) -> None:
    scores = torch.randn(2, 40).bfloat16()
    scores[0, 17] = strange
    assert training.softmax_loss_(scores, torch.tensor([3, 3])).isnan().tolist() == [True, False]


def test_a_model_trains_on_them_as_it_does_without(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Qwen(PRESETS["tiny"]).init_weights(0).bfloat16()
    ids = torch.randint(0, model.config.vocab_size, (2, 96))
    positions = torch.tensor([[*range(50), *range(46)], [*range(96)]])

    def gradients() -> list[Tensor]:
        loss, _ = chunked_cross_entropy(model(ids, positions), model.lm_head.weight, ids.roll(-1, 1))
        return [loss.detach(), *torch.autograd.grad(loss, list(model.parameters()))]

    monkeypatch.setattr(training, "takes", lambda x: False)
    plain = gradients()
    monkeypatch.undo()
    for ours, theirs in zip(gradients(), plain, strict=True):
        assert error(ours, theirs.double()) < 0.03
