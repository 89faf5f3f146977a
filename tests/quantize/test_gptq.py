"""GPTQ: what the formula says by hand, and that it loses less where inputs go together."""

import pytest
import torch

from qianwen.quantize.gptq import GptqConfig, Hessian, gptq, nearest
from qianwen.runtime.errors import ConfigError


def correlated(inputs: int = 256, count: int = 2048) -> torch.Tensor:
    """Inputs [T, K] of which a few directions hold most, as in real layers."""
    directions = torch.randn(inputs // 8, inputs)
    return torch.randn(count, inputs // 8) @ directions + 0.3 * torch.randn(count, inputs)


def hessian_of(x: torch.Tensor) -> torch.Tensor:
    hessian = Hessian(x.size(1))
    for part in x.split(500):
        hessian.add(part)
    return hessian.mean()


def output_error(found: torch.Tensor, weight: torch.Tensor, x: torch.Tensor) -> float:
    return ((x @ (found - weight).T).norm() / (x @ weight.T).norm()).item()


def test_two_inputs_by_hand() -> None:
    """The second input makes good what rounding the first did: w₁ is moved by e · H₀₁ / H₁₁ before it is rounded."""
    hessian = torch.tensor([[2.0, 1.0], [1.0, 1.0]])
    scale = 0.5  # 15 steps from -3.75 to 3.75; both inputs are in one group whose largest is 3.75
    weight = torch.tensor([[0.2, 3.75]])
    found = gptq(weight, hessian, GptqConfig(group_size=-1, damp_percent=1e-9, act_order=False, search=False, passes=0))
    first = round(0.2 / scale)  # 0: an error of 0.2
    second = round((3.75 + (0.2 - first * scale) * 1.0 / 1.0) / scale)
    assert found.codes.tolist() == [[8 + first, min(8 + second, 15)]]
    assert torch.equal(found.scales, torch.tensor([[scale]]).half())


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
def test_inputs_that_have_nothing_in_common_are_rounded_to_nearest(sym: bool, act_order: bool) -> None:
    weight, config = torch.randn(24, 256), GptqConfig(sym=sym, act_order=act_order, search=False, passes=0)
    found, plain = gptq(weight, torch.diag(torch.rand(256) + 0.5), config), nearest(weight, config)
    assert torch.equal(found.codes, plain.codes) and torch.equal(found.scales, plain.scales)


@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize("act_order", [True, False])
def test_a_search_cuts_off_what_costs_the_others_more(sym: bool, act_order: bool) -> None:
    weight, matters = torch.randn(24, 256), torch.rand(256) + 0.5
    lost = [
        (gptq(weight, torch.diag(matters), config).dequantize() - weight).square().mul(matters).sum()
        for config in (GptqConfig(sym=sym, act_order=act_order, search=search, passes=0) for search in (True, False))
    ]
    assert lost[0] < 0.95 * lost[1]
    even = gptq(torch.ones(4, 128), torch.eye(128), GptqConfig(sym=sym)).dequantize()
    torch.testing.assert_close(even, torch.ones(4, 128), atol=1e-3, rtol=0)  # nothing to cut off


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group_size", [64, 128, -1])
@pytest.mark.parametrize("act_order", [True, False])
def test_outputs_change_less_than_by_rounding(bits: int, group_size: int, act_order: bool) -> None:
    x, weight = correlated(), torch.randn(48, 256)
    config = GptqConfig(bits=bits, group_size=group_size, act_order=act_order)
    found, plain = gptq(weight, hessian_of(x), config), nearest(weight, config)
    assert found.group_size == (group_size if group_size > 0 else 256)
    fresh = correlated()  # other directions: what was learned of these inputs must not hurt much elsewhere
    assert output_error(found.dequantize(), weight, x) < 0.6 * output_error(plain.dequantize(), weight, x)
    assert output_error(found.dequantize(), weight, fresh) < 2.5 * output_error(plain.dequantize(), weight, fresh)


def test_the_hessian_is_a_mean_over_all_parts() -> None:
    x = torch.randn(1001, 32)
    torch.testing.assert_close(hessian_of(x), x.T @ x / 1001)
    torch.testing.assert_close(hessian_of(x.bfloat16()), x.bfloat16().float().T @ x.bfloat16().float() / 1001)


def test_inputs_that_are_always_zero_and_too_few_inputs() -> None:
    x, weight = correlated(count=16), torch.randn(8, 256)  # fewer rows than inputs: H alone has no inverse
    x[:, 5] = 0
    found = gptq(weight, hessian_of(x), GptqConfig())
    assert found.dequantize().isfinite().all() and (found.dequantize()[:, 5] == 0).all()
    assert output_error(found.dequantize(), weight, x) < output_error(
        nearest(weight, GptqConfig()).dequantize(), weight, x
    )


def test_a_group_of_zeros() -> None:
    weight = torch.zeros(4, 256)
    assert not nearest(weight, GptqConfig()).dequantize().any()
    assert not gptq(weight, hessian_of(correlated()), GptqConfig(sym=False)).dequantize().any()


def test_inputs_that_are_not_finite_are_refused() -> None:
    hessian = hessian_of(correlated())
    hessian[3, 3] = torch.nan
    with pytest.raises(ConfigError, match="not finite"):
        gptq(torch.randn(4, 256), hessian, GptqConfig())


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"bits": 3}, "3 bits"),
        ({"group_size": 100}, "group_size = 100"),
        ({"damp_percent": 0.0}, "damp_percent = 0"),
        ({"passes": -1}, "passes = -1"),
    ],
)
def test_what_is_no_configuration(fields: dict, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        GptqConfig(**fields)
