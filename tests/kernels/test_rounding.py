"""Grids made without data: errors within their bounds, smaller after the search, placed where they matter less."""

import pytest
import torch
from torch import Tensor

from qianwen.kernels import rounding as rtn
from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family
from qianwen.kernels.rounding import quantize_affine, quantize_int8
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import PackedLinear
from qianwen.quantize.gptq import GptqConfig, nearest


def error(weight: Tensor, like: Tensor) -> float:
    return float((weight - like).norm() / like.norm())


def test_int8_is_within_half_a_step() -> None:
    weight = torch.randn(9, 300)
    quantized = quantize_int8(weight)
    step = quantized.d.float().repeat_interleave(128, 1)[:, :300]
    assert ((quantized.dequantize() - weight).abs() <= step * 0.51 + 1e-7).all()
    assert quantized.codes.min() >= 1


@pytest.mark.parametrize(("bits", "most"), [(4, 0.072), (5, 0.036)])
def test_search_beats_plain_rounding(bits: int, most: float) -> None:
    weight = torch.randn(64, 896) * 0.02
    plain, searched = (error(quantize_affine(weight, bits, search=n).dequantize(), weight) for n in (0, 20))
    assert searched < most and searched < 0.93 * plain


def test_important_inputs_are_kept_better() -> None:
    weight, importance = torch.randn(64, 256), torch.ones(256)
    importance[::4] = 25
    even, uneven = (quantize_affine(weight, 4, which).dequantize() for which in (None, importance))
    assert error(uneven[:, ::4], weight[:, ::4]) < 0.85 * error(even[:, ::4], weight[:, ::4])


@pytest.mark.parametrize("inputs", [32, 100, 896])
def test_degenerate_rows_survive(inputs: int) -> None:
    weight = torch.randn(5, inputs)
    weight[0], weight[1], weight[2], weight[3] = 0, 1, -1, weight[3] * 1e-6
    back = quantize_affine(weight, 4).dequantize()
    assert back.isfinite().all() and back[0].count_nonzero() == 0
    assert ((back - weight)[1:3].abs() < 0.01).all() and (back - weight)[3].abs().max() < 1e-5


@pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
@pytest.mark.parametrize("rows", [1, 16, 37])
def test_kernel_searches_as_pytorch_does(rows: int) -> None:
    weight, importance = torch.randn(rows, 96), torch.rand(96)
    fast, slow = operators.fit(weight, importance, 15, 20), rtn.fit(weight, importance, 15, 20)
    groups, weights = weight.unflatten(1, (-1, 32)), importance.unflatten(0, (-1, 32))

    def loss(step: Tensor, low: Tensor) -> Tensor:
        codes = ((groups + low[..., None]) / step[..., None]).round().clamp(0, 15)
        return ((codes * step[..., None] - low[..., None] - groups).square() * weights).sum()

    torch.testing.assert_close(loss(*fast), loss(*slow), rtol=1e-3, atol=0)  # ties may fall either way


@pytest.mark.parametrize("kind", ["int4", "int5", "int8", "nf4", "gptq4", "gptq8"])
def test_rounding_costs_no_more_than_llama_cpp_allows_itself(kind: str) -> None:
    """R26: on its synthetic data, by its measures: the root of the squared errors over n, and a product's error."""
    weight, other = (0.1 + 2 * torch.cos(torch.arange(4096.0) + offset) for offset in (0.0, 1.0))
    rows = weight.view(16, 256)
    if kind == "nf4":
        back = Nf4Linear.from_float(rows).dequantize()
    elif kind.startswith("gptq"):
        back = nearest(rows, GptqConfig(bits=int(kind[4:]))).dequantize()
    else:
        back = PackedLinear.from_float(rows, format=kind).dequantize()
    errors = back.flatten() - weight
    # A cosine stays near its ends, where the codes of NF4, made for normal weights, lie far apart.
    assert errors.norm() / 4096 <= (0.0022 if kind == "nf4" else 0.002)
    assert (errors * other).sum().abs() / 4096 <= 0.02
