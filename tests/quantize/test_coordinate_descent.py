"""Passes over codes and scales: each step the best for what it moves, so the error of the outputs never grows."""

import pytest
import torch

from qianwen.model.linears.gptq_layout import Groups
from qianwen.quantize.coordinate_descent import refine
from qianwen.quantize.gptq import GptqConfig, gptq, nearest


def damped(inputs: int = 256) -> torch.Tensor:
    """An H of inputs that go together, as in real layers."""
    x = torch.randn(1024, inputs // 8) @ torch.randn(inputs // 8, inputs) + 0.3 * torch.randn(1024, inputs)
    hessian = x.T @ x / len(x)
    return hessian + 0.01 * hessian.diagonal().mean() * torch.eye(inputs)


def lost(found: Groups, weight: torch.Tensor, hessian: torch.Tensor) -> torch.Tensor:
    """ΔHΔᵀ of every output, in double."""
    delta = (found.dequantize() - weight).double()
    return ((delta @ hessian.double()) * delta).sum(1)


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("group_size", [64, 128, -1])
def test_no_pass_makes_an_output_worse_and_rounding_gets_much_better(bits: int, sym: bool, group_size: int) -> None:
    weight, hessian = torch.randn(24, 256), damped()
    config = GptqConfig(bits=bits, sym=sym, group_size=group_size, passes=0)
    found = nearest(weight, config)
    first = before = lost(found, weight, hessian)
    for _ in range(3):
        found = refine(weight, found, hessian, passes=1)
        after = lost(found, weight, hessian)
        assert (after <= before * 1.002).all()  # the least that fp16 leaves of a scale is 1 in 2,048
        before = after
    assert before.sum() < 0.5 * first.sum()
    assert found.codes.max().item() < 2**bits and found.group_size == config.size(256)


@pytest.mark.parametrize("group_size", [64, -1])
def test_every_code_moves_to_the_nearest_where_inputs_are_independent(group_size: int) -> None:
    weight, hessian = torch.randn(8, 256), torch.diag(torch.rand(256) + 0.5)
    found = nearest(weight, GptqConfig(group_size=group_size))
    spoiled = Groups(4, 15 - found.codes, found.scales, found.zeros, found.group_of)
    found = refine(weight, spoiled, hessian, passes=1)
    scale, zero = found.scales.float()[:, found.group_of.long()], found.zeros.float()[:, found.group_of.long()]
    assert torch.equal(found.codes.float(), (weight / scale + zero).round().clamp(0, 15))


def test_what_gptq_finds_gets_better_too() -> None:
    weight, hessian = torch.randn(64, 256), damped()
    errors = [lost(gptq(weight, hessian, GptqConfig(passes=n)), weight, hessian).sum() for n in (0, 2)]
    assert errors[1] < 0.97 * errors[0]


def test_a_scale_is_fitted_by_least_squares_and_codes_with_it() -> None:
    """Weights of a grid that is known, read on one a tenth too wide: the pass finds the grid."""
    codes = torch.randint(0, 16, (8, 128), dtype=torch.uint8)
    right = torch.rand(8, 1).half() + 0.5
    eight, order = torch.full((8, 1), 8, dtype=torch.uint8), torch.zeros(128, dtype=torch.int32)
    weight = Groups(4, codes, right, eight, order).dequantize()
    found = refine(weight, Groups(4, codes, right * 1.1, eight, order), damped(128), passes=1)
    assert torch.equal(found.codes, codes)
    torch.testing.assert_close(found.scales, right, atol=0, rtol=2e-3)


def test_a_group_of_zeros_stays_one() -> None:
    found = nearest(torch.zeros(4, 256), GptqConfig())
    again = refine(torch.zeros(4, 256), found, damped(), passes=2)
    assert torch.equal(again.codes, found.codes) and torch.equal(again.scales, found.scales)


def test_without_passes_nothing_changes() -> None:
    weight = torch.randn(4, 256)
    found = nearest(weight, GptqConfig())
    same = refine(weight, found, damped(), passes=0)
    assert torch.equal(same.codes, found.codes) and torch.equal(same.scales, found.scales)
