"""Packed linears in Triton agree with PyTorch in every format; on a GPU, `tests/gpu/test_quantize.py` says more."""

import pytest
import torch

pytest.importorskip("triton", reason="Triton has no wheel for this system")

from qianwen.kernels import triton  # noqa: E402
from qianwen.kernels.packing import FORMATS, pack  # noqa: E402
from qianwen.kernels.self_test import random_weight  # noqa: E402


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("format", [name for name in FORMATS if name != "bf16"])
def test_unpacking_and_the_product_are_those_of_the_weights(device, format, has_bias):
    weight = random_weight(format, 20, 300)  # neither fills its last panel, block or group
    packed, exact = pack(weight).to(device), weight.dequantize().to(device)
    assert torch.allclose(triton.unpack(packed, format, 20, 300, torch.float32), exact, rtol=1e-6, atol=1e-7)
    x, bias = torch.randn(2, 300, device=device), torch.randn(20, device=device) if has_bias else None
    y = triton.few_rows(x, packed, format, 20, bias)
    expected = torch.nn.functional.linear(x.double(), exact.double(), bias.double() if has_bias else None)
    assert torch.allclose(y.double(), expected, rtol=1e-4, atol=1e-4)
