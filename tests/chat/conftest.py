import pytest
from hypothesis import settings

from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

PATTERN = r"\p{N}|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
MERGES = (b"us", b"er", b"}\n", b".\n", b" t", b"Th", b"in")


def byte_tokenizer(*tags: str) -> Tokenizer:
    """A token for every byte, a few merges (one across a line end, as in the real vocabulary), and `tags`."""
    ranks = {bytes([value]): value for value in range(256)} | {merge: 256 + i for i, merge in enumerate(MERGES)}
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>", *tags)
    return Tokenizer(Vocabulary(ranks, {name: len(ranks) + i for i, name in enumerate(names)}, PATTERN))


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    """As Qwen v1's: no token for tags."""
    return byte_tokenizer()


@pytest.fixture(scope="session")
def tag_tokenizer() -> Tokenizer:
    """As Qwen2.5's: tags of tool calls are single ids."""
    return byte_tokenizer("<tool_call>", "</tool_call>")
