"""The network and its parts (Qwen report, section 2.3).

Read in this order:

    config.py         the shape of a model, and the published sizes
    transformer.py    the network, one for all families
    rope.py           rotary positions
    attention.py      which tokens a token sees: causal, windowed, packed documents
    rope_state.py     how the positions of one text are changed: NTK, YaRN, linear, Llama 3, LogN
    long_context.py   which of these a text gets, from its length; windows for layers
    caches/           keys and values of earlier tokens, behind one small protocol
    linears/          all types of linears: packed, NF4, GPTQ codes, with adapters
    fused_layers.py   a decoder layer in one call of the C++ kernels
    serving.py        generate fast with weights that are being trained
    heads.py          reward and value models: a number for each token
    loss.py           cross-entropy that never holds all logits
    account.py        parameters, FLOPs and bytes of a config

This chapter computes with tensors. It does not handle files, text, the meaning of tokens, optimizers or requests.
"""

from qianwen.model.caches.contiguous import ContiguousCache, KVCache
from qianwen.model.config import PRESETS, QwenConfig
from qianwen.model.transformer import Qwen

__all__ = ["PRESETS", "ContiguousCache", "KVCache", "Qwen", "QwenConfig"]
