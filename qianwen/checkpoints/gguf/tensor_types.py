"""Which number format each tensor of a GGUF file gets, for the file types that can be written.

    F32 F16 BF16 Q8_0    every matrix in this format
    Q4_0                 the head in Q8_0
    Q4_K_M               Q4_K, but Q6_K for the head and, in half of the layers, for `attn_v` and `ffn_down`

The mix Q4_K_M is llama.cpp's: the first and last eighth of the layers and every third between them get more bits. Rows
that are not whole blocks of 256 weights get the next larger format with blocks of 32. Vectors are F32.

A `Rounding` changes this for single tensors, and carries what is known about their inputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from qianwen.kernels.gguf_blocks import FORMATS

GgufType = Literal["F32", "F16", "BF16", "Q8_0", "Q4_K_M", "Q4_0"]
FILE_TYPES = {"F32": 0, "F16": 1, "Q4_0": 2, "Q8_0": 7, "Q4_K_M": 15, "BF16": 32}  # llama.cpp's general.file_type
ROUNDED = ("Q4_0", "Q4_K_M")  # types whose scales are searched

EMBEDDING, HEAD = "token_embd.weight", "output.weight"
WITHOUT_K = {"Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0"}  # formats for rows that are not whole blocks of 256


@dataclass(frozen=True)
class Rounding:
    """How to round a model's weights, by our parameter names."""

    importance: Mapping[str, Tensor] = field(default_factory=dict)  # of the inputs of a linear, [K]
    types: Mapping[str, str] = field(default_factory=dict)  # parameters that need another format than the usual


def tensor_type(name: str, shape: tuple[int, ...], type: str, num_layers: int, *, is_tied: bool = False) -> str:
    """The format of a tensor with llama.cpp's `name` in a file of `type`. `is_tied`: the embedding is also the head."""
    if len(shape) == 1:
        return "F32"
    is_head = name == (EMBEDDING if is_tied else HEAD)
    if type == "Q4_0":
        type = "Q8_0" if is_head else "Q4_0"
    elif type == "Q4_K_M":
        type = "Q6_K" if is_head else _k_quant(name, num_layers)
    return fitting(type, shape[-1])


def _k_quant(name: str, num_layers: int) -> str:
    if ".attn_qkv." in name:  # Qwen v1: the values are fused with queries and keys
        return "Q5_K"
    if ".attn_v." in name or ".ffn_down." in name:
        return "Q6_K" if _has_more_bits(int(name.split(".")[1]), num_layers) else "Q4_K"
    return "Q4_K"


def _has_more_bits(layer: int, num_layers: int) -> bool:
    eighth = num_layers // 8
    return layer < eighth or layer >= 7 * num_layers // 8 or (layer - eighth) % 3 == 2


def fitting(type: str, row_size: int) -> str:
    """`type`, or a format with smaller blocks if rows of `row_size` weights are not whole blocks of it."""
    if row_size % FORMATS[type].weights and type in WITHOUT_K:
        type = WITHOUT_K[type]
    return "F16" if row_size % FORMATS[type].weights else type
