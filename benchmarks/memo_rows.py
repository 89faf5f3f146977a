"""The methods that `memo_long_context.py` compares, and what is measured of them: perplexity and passkeys."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from memo_texts import is_held_out_key, passkey

from qianwen.eval.length_windows import cut_windows, window_loss, window_nats
from qianwen.model.config import QwenConfig
from qianwen.model.long_context import layer_windows, ntk_alpha
from qianwen.model.rope import RotaryEmbedding
from qianwen.model.rope_state import RopeState, ntk_base
from qianwen.model.transformer import Qwen
from qianwen.tokenizer.tokenizer import Tokenizer

Sums = dict[str, list[list[float]]]  # length → of each document: nats, tokens, and both of the last quarters


@dataclass(frozen=True, kw_only=True)
class Row:
    """One way to read texts beyond the trained length T. Windows are in units of T, from the lowest layer on."""

    ntk: bool = False
    logn: bool = False
    windows: tuple[int, ...] = ()  # 0: all tokens
    method: str = ""  # linear or yarn, by the factor that the length needs
    sharpness: float = 0.0  # beyond T, the factor of all queries; not together with `method`


SKETCH = (1, 2, 4)  # of a maintainer: 2,048 tokens in the first layers, then 4,096, then 8,192, for T = 2,048
ROWS = {
    "plain": Row(),
    "dynamic_ntk": Row(ntk=True),
    "dynamic_ntk + logn": Row(ntk=True, logn=True),
    "dynamic_ntk + logn + local_attn": Row(ntk=True, logn=True, windows=SKETCH),
    "logn": Row(logn=True),
    "dynamic_ntk + local_attn": Row(ntk=True, windows=SKETCH),
    "local_attn": Row(windows=SKETCH),
    "windows 1x": Row(windows=(1,)),
    "logn + windows 1x": Row(logn=True, windows=(1,)),
    "dynamic_ntk + windows 1x": Row(ntk=True, windows=(1,)),
    "linear": Row(method="linear"),
    "yarn": Row(method="yarn"),
}
MEMO_ROWS = list(ROWS)[:4]
PATTERNS = {
    "1": (1,), "2": (2,), "4": (4,), "1, 2, 4": (1, 2, 4), "4, 2, 1": (4, 2, 1), "1, 2, all": (1, 2, 0),
    "all, 2, 1": (0, 2, 1), "1, 1, all": (1, 1, 0), "all, 1, 1": (0, 1, 1), "1, all": (1, 0), "all, 1": (0, 1),
}  # fmt: skip
SHARPNESS = (0.9, 1.0, 1.1, 1.2, 1.3, 1.4)


def configured(config: QwenConfig, row: Row, length: int) -> QwenConfig:
    """The configuration of a network for texts of one length."""
    train_len, is_longer = config.train_len, length > config.train_len
    windows = layer_windows(config.num_hidden_layers, [w * train_len for w in row.windows]) if row.windows else ()
    changes: dict = {"layer_windows": windows, "use_logn_attn": row.logn or config.logn_in_training}
    if row.method and is_longer:
        scaling = RopeState(method=row.method, factor=length / train_len, original_len=train_len)  # type: ignore[arg-type]
        changes |= {"rope_scaling": scaling, "scaling_from": train_len}
    elif row.sharpness and is_longer:  # YaRN by a factor of 1 only multiplies queries; so the base is set here
        scaling = RopeState(method="yarn", factor=1, original_len=train_len, attention_factor=math.sqrt(row.sharpness))
        alpha = ntk_alpha(length, train_len) if row.ntk else 1
        base = ntk_base(config.rope_theta, alpha, config.head_dim)
        changes |= {"rope_scaling": scaling, "scaling_from": train_len, "rope_theta": base}
    else:
        changes["use_dynamic_ntk"] = row.ntk
    return replace(config, **changes)


def configure(model: Qwen, config: QwenConfig) -> Qwen:
    """The same network with another configuration of its attention."""
    model.config, model.model.rotary = config, RotaryEmbedding(config)
    return model


def read(model: Qwen, row: Row, lengths: Sequence[int], shortest: int, documents: Sequence[Sequence[int]]) -> Sums:
    """What each document costs at each length."""
    own, longest = model.config, len(documents[0])
    sums: Sums = {}
    for length in lengths:
        configure(model, configured(own, row, length))
        costs = [window_loss(window_nats(model, cut_windows(ids, length, longest)), shortest) for ids in documents]
        sums[str(length)] = [[*cost.every_token, *cost.last_quarter] for cost in costs]
    configure(model, own)
    return sums


@torch.inference_mode()
def passkeys(
    model: Qwen, row: Row, lengths: Sequence[int], number: int, tokenizer: Tokenizer, fillers: Sequence[Sequence[int]]
) -> dict[str, list[list[float]]]:
    """Length → [depth, 1 if the five digits are the most likely ones] of `number` texts with keys never trained on."""
    own, results = model.config, {}
    digits = slice(-6, -1)  # an answer is a space, five digits and a full stop, each one token
    keys = [key for key in np.random.RandomState(0).permutation(10**5).tolist() if is_held_out_key(key)][:number]
    for length in lengths:
        configure(model, configured(own, row, length))
        results[str(length)] = []
        for n, key in enumerate(keys):
            depth, filler = n / max(1, number - 1), fillers[n % len(fillers)]
            ids = torch.from_numpy(passkey(tokenizer, filler, key, length, answered=True, depth=depth))
            best = model.logits(model(ids[None])[0, -7:-2]).argmax(-1)
            results[str(length)].append([depth, float(torch.equal(best, ids[digits]))])
    configure(model, own)
    return results
