"""Random weights in every packed format."""

from collections.abc import Callable

import pytest
import torch

from qianwen.kernels.packing import FORMATS, Quantized


@pytest.fixture
def random_weight() -> Callable[[str, int, int], Quantized]:
    """make(format, outputs, inputs)"""
    return make


def make(format: str, outputs: int, inputs: int) -> Quantized:
    """Random integers and scales of a format."""
    form = FORMATS[format]
    blocks, small = -(-inputs // 256), -(-inputs // form.scale_inputs)
    codes = torch.randint(0, 1 << form.bits, (outputs, inputs), dtype=torch.uint8)
    d, e = (torch.rand(2, outputs, blocks if form.has_blocks else small) * 0.01 + 0.002).half()
    if form.is_affine:
        s, t = torch.randint(0, 64, (2, outputs, small), dtype=torch.uint8)
        return Quantized(format, codes, d, s, e, t)
    if form.is_signed:
        return Quantized(format, codes, d, torch.randint(-128, 128, (outputs, small), dtype=torch.int8))
    return Quantized(format, codes, d)
