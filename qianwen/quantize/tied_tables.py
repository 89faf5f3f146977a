"""GGUF files that hold the table of a tied model twice: `token_embd` in few bits, `output` in more.

Both are roundings of one table. A folder in 16 bits would keep two copies of it, half of a small model's size. So both
are taken from `output`, which is nearer to the table that they were made of.
"""

import copy
from dataclasses import replace

import numpy as np

from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.load import OpenModel

EMBEDDING, HEAD = "model.embed_tokens.weight", "lm_head.weight"
SAMPLED_ROWS = 512  # rows of the two tables that are compared
MAX_DIFFERENCE = 0.25  # relative; rounding to four bits causes 0.1, two unrelated tables differ by 1.4


def with_one_table(opened: OpenModel) -> OpenModel:
    """`opened` with a tied head if its file has two roundings of one table, else unchanged."""
    source = opened.source
    if not isinstance(source, GgufModel) or HEAD not in source.tensors or not _are_one_table(source):
        return opened
    tied = copy.copy(source)
    tied.config = replace(source.config, tie_word_embeddings=True)
    tied.tensors = source.tensors | {EMBEDDING: source.tensors[HEAD]}
    del tied.tensors[HEAD]
    return opened._replace(source=tied, config=tied.config)


def _are_one_table(source: GgufModel) -> bool:
    rows = np.linspace(0, source.config.vocab_size - 1, SAMPLED_ROWS).astype(int)
    embedding, head = (source.tensors[name].take(rows).dequantize() for name in (EMBEDDING, HEAD))
    return bool((embedding - head).norm() <= MAX_DIFFERENCE * head.norm())
