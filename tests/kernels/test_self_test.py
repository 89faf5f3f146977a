"""The self-test passes kernels that are right and finds those that are not."""

import math

import pytest
import torch

from qianwen.kernels import self_test
from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family
from qianwen.kernels.packing import FORMATS

needs_kernels = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")


@needs_kernels
def test_every_loop_is_compared_and_right() -> None:
    outcomes = list(self_test.on_cpu())
    loops = {f"linear {format}" for format in FORMATS}
    loops |= {"attention", "attention of prompts", "rms_norm", "rope", "silu_mul", "rounding"}
    assert {outcome.loop for outcome in outcomes} == loops
    assert all(outcome.is_right for outcome in outcomes), outcomes


@needs_kernels
def test_loops_for_training_are_right() -> None:
    outcomes = list(self_test.for_training())
    assert len(outcomes) == 5 and all(outcome.is_right for outcome in outcomes), outcomes


@needs_kernels
def test_a_wrong_result_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    right = operators.rms_norm
    monkeypatch.setattr(operators, "rms_norm", lambda *args: right(*args) * 1.01)
    monkeypatch.setattr(operators, "silu_mul", lambda both: torch.full((len(both), both.size(1) // 2), math.nan))
    assert {outcome.loop for outcome in self_test.on_cpu() if not outcome.is_right} == {"rms_norm", "silu_mul"}
