"""A random chat model on disk, small enough to load in milliseconds."""

import pytest

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary

SHAPE = {
    "vocab_size": 272,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,
}


def tiny() -> tuple[Qwen, Tokenizer]:
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    ranks = {bytes([value]): value for value in range(256)}
    tokenizer = Tokenizer(Vocabulary(ranks, {name: 256 + i for i, name in enumerate(names)}, QWEN_PATTERN))
    return Qwen(QwenConfig(**SHAPE)).init_weights(0).eval(), tokenizer


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("model")
    write_folder(*tiny(), path, chat=True)
    return path
