"""Models that hold one table twice: in many GGUF files `token_embd` has few bits and `output` more.

Both are roundings of the table of a tied model. A copy in other formats would keep the table twice, half of a small
model's size. So both are taken from `output`, which is nearer to the table that they were made of.
"""

import copy
from dataclasses import replace

import torch
from torch import Tensor

from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.load import OpenModel
from qianwen.model.transformer import Qwen

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SAMPLED_ROWS = 512  # rows of the two tables that are compared
MAX_DIFFERENCE = 0.25  # relative; rounding to four bits causes 0.1, two unrelated tables differ by 1.4


def with_one_table(opened: OpenModel) -> OpenModel:
    """`opened` with a tied head if its file has two roundings of one table, else unchanged."""
    source = opened.source
    if not isinstance(source, GgufModel) or HEAD not in source.tensors:
        return opened
    rows = _sample(source.config.vocab_size)
    embedding, head = (source.tensors[name].take(rows.numpy()).dequantize() for name in (EMBEDDING, HEAD))
    if not _are_one_table(embedding, head):
        return opened
    tied = copy.copy(source)
    tied.config = replace(source.config, tie_word_embeddings=True)
    tied.tensors = source.tensors | {EMBEDDING: source.tensors[HEAD]}
    del tied.tensors[HEAD]
    return opened._replace(source=tied, config=tied.config)


def tie_one_table(model: Qwen) -> None:
    """Tie head and embedding of a loaded network, in place, if they are two roundings of one table."""
    embedding, head = model.model.embed_tokens, model.lm_head
    rows = _sample(model.config.vocab_size).to(embedding.weight.device)
    if model.config.tie_word_embeddings or not _are_one_table(embedding.weight[rows], head.weight[rows]):
        return
    embedding.weight = head.weight
    model.config = replace(model.config, tie_word_embeddings=True)


def _sample(vocab_size: int) -> Tensor:
    return torch.linspace(0, vocab_size - 1, SAMPLED_ROWS).long()


def _are_one_table(embedding: Tensor, head: Tensor) -> bool:
    return bool((embedding - head).norm() <= MAX_DIFFERENCE * head.norm())
