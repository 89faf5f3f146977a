"""Random weights in every packed format."""

from collections.abc import Callable

import pytest

from qianwen.kernels.packing import Quantized
from qianwen.kernels.self_test import random_weight as make


@pytest.fixture
def random_weight() -> Callable[[str, int, int], Quantized]:
    """make(format, outputs, inputs)"""
    return make
