"""The self-test passes kernels that are right and finds those that are not."""

import math

import pytest
import torch

from qianwen.kernels import self_test
from qianwen.kernels.cpu import operators, training
from qianwen.kernels.packing import FORMATS

needs_kernels = pytest.mark.skipif(not operators.available(), reason="the kernels need AVX-512 VNNI and a C++ compiler")


@needs_kernels
def test_every_loop_is_compared_and_right() -> None:
    outcomes = list(self_test.on_cpu())
    loops = {f"linear {format}" for format in FORMATS} | {"attention", "rms_norm", "rope", "silu_mul"}
    assert {outcome.loop for outcome in outcomes} == loops
    assert all(outcome.is_right for outcome in outcomes), outcomes


@pytest.mark.skipif(not training.usable(), reason="the kernels for training need AMX and a C++ compiler")
def test_loops_for_training_are_right() -> None:
    outcomes = list(self_test.for_training())
    assert len(outcomes) == 5 and all(outcome.is_right for outcome in outcomes), outcomes


@needs_kernels
def test_a_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = operators.rms_norm
    monkeypatch.setattr(operators, "rms_norm", lambda *args: right(*args) * 1.01)
    monkeypatch.setattr(operators, "silu_mul", lambda both: torch.full((len(both), both.size(1) // 2), math.nan))
    assert {outcome.loop for outcome in self_test.on_cpu() if not outcome.is_right} == {"rms_norm", "silu_mul"}
