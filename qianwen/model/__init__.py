"""The network, and all it can be made of (Qwen report, section 2.3).

Read in this order:

    config.py         the shape of a model, and the published sizes
    transformer.py    the network, one for all families
    rope.py           rotary positions
    attention.py      which token sees which: causal, windowed, packed documents
    long_context.py   reading beyond the trained length: NTK, LogN, windows as pure functions
    caches/           keys and values of tokens already seen, behind one small protocol
    linears/          every form of a linear: packed, NF4, GPTQ codes, with adapters
    fused_layers.py   whole decoder layers in one call of the C++ kernels
    serving.py        weights that are trained and answer in turn
    heads.py          reward and value models: a number for each token
    loss.py           cross-entropy without ever holding all logits
    account.py        parameters, FLOPs and bytes of a shape

This chapter knows tensors. It does not know files, text, the meaning of tokens, optimizers or requests.
"""

from qianwen.model.caches.contiguous import ContiguousCache, KVCache
from qianwen.model.config import PRESETS, QwenConfig
from qianwen.model.transformer import Qwen

__all__ = ["PRESETS", "ContiguousCache", "KVCache", "Qwen", "QwenConfig"]
