"""What it costs to read the text again at each doubling of dynamic NTK, while one long answer is generated.

    python benchmarks/growth.py [--length 16384] [--train-len 2048] [--quick] [--json PATH]

A network with random weights of the 0.5B's shape in int8 and a trained length of 2,048 tokens answers a short prompt up
to `--length` tokens, with `on_growth = exact`: the text is read again after 2,048, 4,096 and 8,192 tokens. The time of
each step is measured in one run. A step with no new token is reading; the peer is the same answer without these steps,
which is what `fixed` takes. `ratio growth_exact` is its time divided by ours: 1 / 1.15 = 0.87 means 15 % more.
`--quick` takes a smaller network, a trained length of 256 and an answer of 2,048 tokens.
"""

from __future__ import annotations

import time
from dataclasses import replace

import torch
from pairs import Pairs, Report, arguments

from qianwen.engine.llm_engine import EngineConfig, LLMEngine
from qianwen.engine.request import Request
from qianwen.engine.sampling_params import SamplingParams
from qianwen.model import PRESETS
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import pack_model
from qianwen.model.long_context import LongContext, OnGrowth
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

PROMPT = 64
SMALL = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 4}
SMALL |= {"num_key_value_heads": 2, "head_dim": 64, "vocab_size": 4096}


def network(train_len: int, length: int, is_small: bool) -> Qwen:
    """Random weights in int8; LogN on, because models with dynamic NTK have it too."""
    ntk = {"use_dynamic_ntk": True, "use_logn_attn": True, "train_len": train_len, "max_position_embeddings": length}
    config: QwenConfig = replace(PRESETS["qwen2.5-0.5b"], **(SMALL if is_small else {}), **ntk)
    return pack_model(Qwen(config).init_weights(0).eval(), 8)


def byte_tokenizer() -> Tokenizer:
    """It only has to turn ids into some text."""
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {"<|endoftext|>": 256, "<|im_start|>": 257, "<|im_end|>": 258}, r"\S+|\s+"))
