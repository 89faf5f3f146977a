"""The network, and everything attached to it (Qwen report, section 2.3).

Read in this order:

    config.py         the shape of a model, the published sizes; hf_config.py for the keys of `config.json`
    transformer.py    the network itself, one for all families
    attention.py      which token sees which: causal, windowed, packed documents
    cache.py          what is remembered between calls, behind one small protocol; paged_cache.py for many sequences
    long_context.py   reading beyond the trained length: NTK, LogN, windows as pure functions
    loss.py           cross-entropy without ever holding all logits
    account.py        parameters, FLOPs and bytes of a shape
    lora.py           a low-rank change beside a frozen linear; adapter.py its files; adapter_bank.py many over one base
    weights.py        safetensors of every family, in and out; gguf.py for GGUF; hub.py for names of models

This chapter knows tensors and files of weights. It does not know text, tokens' meaning, optimizers or requests.
"""

from qianwen.model.cache import ContiguousCache, KVCache
from qianwen.model.config import PRESETS, QwenConfig
from qianwen.model.transformer import Qwen

__all__ = ["PRESETS", "ContiguousCache", "KVCache", "Qwen", "QwenConfig"]
