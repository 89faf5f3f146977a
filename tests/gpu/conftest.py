"""Tests of what is different on an NVIDIA GPU: `pytest -m gpu`. Without one they skip."""

import pytest
import torch

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen


@pytest.fixture
def device() -> torch.device:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return torch.device("cuda")


@pytest.fixture
def make_model():
    """make(**fields): a small network with biases and grouped heads, in fp32 on the CPU."""

    def make(**fields) -> Qwen:
        shape = {
            "vocab_size": 272,
            "hidden_size": 256,
            "intermediate_size": 384,
            "num_hidden_layers": 3,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.15,
        }
        return Qwen(QwenConfig(**(shape | fields))).init_weights(0).eval()

    return make
