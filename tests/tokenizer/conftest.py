"""A small vocabulary learned here, and the real one where it lies on this machine."""

import os
from pathlib import Path

import pytest

from qianwen.runtime.files import cache_dir
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary
from qianwen.tokenizer.vocab_files import load_vocabulary

TEXT = (
    Path(os.__file__).read_text(encoding="utf-8")[:40_000] + "我是一只猫，你是一只猫。通义千问 12 345 éàü 😀😀\n\n" * 20
)


@pytest.fixture(scope="session")
def small() -> Tokenizer:
    """256 bytes, 800 merges, 208 control tokens."""
    return Tokenizer(train_vocabulary([TEXT], 256 + 800 + 208))


@pytest.fixture(scope="session")
def qwen() -> Tokenizer:
    """The real 151,851 tokens."""
    given = os.environ.get("QIANWEN_VOCAB") or next(map(str, cache_dir().rglob("qwen.tiktoken")), "")
    if not given:
        pytest.skip("Qwen's vocabulary is not on this machine: `qianwen tokenizer encode hi` fetches it")
    return Tokenizer(load_vocabulary(given))
