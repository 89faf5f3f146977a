"""The custom backward pass equals autograd of the formula, and the dropout rate is right."""

import pytest
import torch
import torch.nn.functional as F

from qianwen.model.linears.low_rank import dropout_mask, low_rank


def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, ...]:
    shapes = ((2, 5, 7), (2, 5, 12), (3, 12), (7, 3))
    return tuple(torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes)


def formula(out: torch.Tensor, x: torch.Tensor, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return out + 0.5 * F.linear(F.linear(x, a), b)


def test_forward_and_backward_equal_the_formula() -> None:
    assert torch.autograd.gradcheck(lambda out, x, a, b: low_rank(out * 1, x, (a, b), 0.5, 0.0), inputs())
    out, x, a, b = inputs()
    torch.testing.assert_close(low_rank(out * 1, x, (a, b), 0.5, 0.0), formula(out, x, a, b))


def test_dropout_equals_the_formula_with_its_mask() -> None:
    out, x, a, b = inputs()
    torch.manual_seed(3)
    keep, chance = dropout_mask(x.reshape(-1, 12), 0.3)
    assert keep is not None and 0 < keep.sum() < keep.numel()
    left = x * keep.view_as(x) / (1 - chance)
    upstream = torch.randn(2, 5, 7, dtype=torch.float64)
    wanted = torch.autograd.grad(formula(out, left, a, b), (out, x, a, b), upstream)
    torch.manual_seed(3)
    found = torch.autograd.grad(low_rank(out * 1, x, (a, b), 0.5, 0.3), (out, x, a, b), upstream)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("dropout", [0.002, 0.05, 0.5])
def test_the_dropout_rate_is_right(dropout: float) -> None:
    keep, chance = dropout_mask(torch.ones(500, 1001), dropout)
    assert keep is not None and abs(chance - dropout) < 1 / 256
    dropped = 1 - keep
    assert dropped.float().mean().item() == pytest.approx(chance, rel=0.05)
    assert dropped.float().mean(0).std() < 3 * (chance / 500) ** 0.5


def test_no_random_numbers_are_drawn_without_dropout() -> None:
    before = torch.get_rng_state()
    assert dropout_mask(torch.ones(4, 4), 0.0) == (None, 0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_linears_with_the_same_input_store_it_once() -> None:
    x = torch.randn(64, 32, requires_grad=True)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t), t)[1], lambda t: t):
        for _ in range(3):
            low_rank(torch.zeros(64, 8), x, (torch.randn(2, 32, requires_grad=True), torch.randn(8, 2)), 1.0, 0.1)
    floats = {tensor.data_ptr() for tensor in kept if tensor.shape == x.shape and tensor.is_floating_point()}
    assert floats == {x.data_ptr()}


@pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float32])
def test_data_types_may_differ(out_dtype: torch.dtype) -> None:
    out, x, a, b = inputs(torch.float32)
    x = x.detach().to(out_dtype).requires_grad_()
    found = low_rank((out * 1).to(out_dtype), x, (a, b), 0.5, 0.0)
    assert found.dtype == out_dtype
    torch.testing.assert_close(found.float(), formula(out, x.float(), a, b), atol=0.05, rtol=0.02)
    found.float().sum().backward()
    assert x.grad is not None and x.grad.dtype == out_dtype and a.grad is not None
