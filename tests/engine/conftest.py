"""A tiny random network with a vocabulary of bytes."""

from pathlib import Path

import pytest
import torch
from hypothesis import settings

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.engine.llm import LLM
from qianwen.engine.llm_engine import EngineConfig
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")

PATTERN = r"\p{N}|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"


def byte_tokenizer(*tags: str) -> Tokenizer:
    """A token for every byte, three control tokens, and `tags`."""
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *tags)
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + index for index, name in enumerate(names)}, PATTERN))


def tiny_model(seed: int = 0, **fields) -> Qwen:
    """Two layers with weights large enough that its answers differ from each other."""
    shape = {
        "vocab_size": 272,  # 13 rows of padding
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "initializer_range": 0.3,
    }
    return Qwen(QwenConfig(**(shape | fields))).init_weights(seed).eval()


@pytest.fixture(scope="session")
def adapter_folders(tmp_path_factory) -> dict[str, Path]:
    """Two adapters for `tiny_model()`, large enough to change its answers."""
    folders = {}
    for seed, name in enumerate(("a", "b"), start=1):
        lora = LoraConfig(rank=4, alpha=16)
        adapted = attach(tiny_model(), lora)
        generator = torch.Generator().manual_seed(seed)
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.data.normal_(0, 0.3, generator=generator)
        folders[name] = tmp_path_factory.mktemp(name)
        write_adapter(adapted, folders[name], lora, "tiny")
    return folders


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return byte_tokenizer()


@pytest.fixture(scope="session")
def model() -> Qwen:
    torch.set_num_threads(1)
    return tiny_model()


@pytest.fixture
def llm(model, tokenizer) -> LLM:
    return LLM(model, tokenizer, EngineConfig(block_size=8, max_num_batched_tokens=32))


@pytest.fixture(scope="session")
def make_llm(model, tokenizer):
    """Creates LLMs with the shared model, each with its own engine."""
    return lambda **config: LLM(model, tokenizer, EngineConfig(**config))


@pytest.fixture(scope="session")
def greedy(model, tokenizer):
    """The reference: a full forward over the whole text for every token."""

    known: dict[tuple[int, ...], list[int]] = {}

    @torch.inference_mode()
    def run(ids: list[int], num_tokens: int) -> list[int]:
        out = known.setdefault(tuple(ids), list(ids))
        while len(out) < len(ids) + num_tokens:
            scores = model.logits(model(torch.tensor([out]))[0, -1])[: tokenizer.vocab_size]
            out.append(int(scores.argmax()))
        return out[len(ids) : len(ids) + num_tokens]

    return run
