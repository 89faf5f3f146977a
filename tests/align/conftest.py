"""A vocabulary of bytes and a network of two narrow layers."""

import pytest

from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + number for number, name in enumerate(names)}, QWEN_PATTERN))


@pytest.fixture
def model() -> Qwen:
    shape = QwenConfig(
        vocab_size=259,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
    )
    return Qwen(shape).init_weights(0)
