"""The predicted time follows the work: method, tokens, length, recomputation."""

import pytest
import torch

from qianwen.model.config import PRESETS
from qianwen.train import duration
from qianwen.train.duration import training_seconds

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _fixed_peak(monkeypatch):
    monkeypatch.setattr(duration, "measured_peak", lambda device, dtype: 1e11)


def seconds(task="lora", tokens=1000, seq_len=512, recompute=False) -> float:
    config = PRESETS["qwen2.5-0.5b"]
    return training_seconds(config, task, tokens, seq_len, recompute=recompute, device=CPU, dtype=torch.float32)


def test_more_work_takes_longer():
    assert seconds(tokens=2000) == pytest.approx(2 * seconds())
    assert seconds("full") == pytest.approx(1.5 * seconds())
    assert seconds("qlora") > seconds()
    assert seconds(recompute=True) == pytest.approx(1.5 * seconds())
    assert seconds(seq_len=2048) > seconds()


def test_it_is_operations_divided_by_speed():
    """Two passes of about 2 × 0.49 billion operations a token, at 0.4 of 1e11 a second."""
    assert seconds(tokens=1) == pytest.approx(2 * 2 * 0.494e9 / 0.4e11, rel=0.1)
