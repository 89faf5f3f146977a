"""Random weights in every packed format."""

from collections.abc import Callable

import pytest

from qianwen.kernels import self_test
from qianwen.kernels.packing import Quantized


@pytest.fixture
def random_weight() -> Callable[[str, int, int], Quantized]:
    """(format, outputs, inputs) → integers and scales"""
    return self_test.random_weight
