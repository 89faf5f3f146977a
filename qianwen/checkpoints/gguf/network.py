"""Models in GGUF files: tensor names, metadata and vocabulary of llama.cpp ↔ ours.

Four architectures: `qwen` (v1: q, k, v fused; the feed-forward width is doubled), `qwen2`, `qwen3` and `llama`. The
query and key rows of `llama` are interleaved, because llama.cpp rotates neighbours (2j, 2j + 1) for `llama` and halves
(j, j + d/2) for the others.

`GgufModel.tensors` has all parameters by our names, still packed, so the blocks can be repacked for the fast kernels;
`load` converts them to an ordinary network. Special tokens, merges and token ids come from the file.
The container is in `file.py`, the number formats are in `gguf_blocks.py`; `tensor_types.py` chooses one for each tensor
that is written. The scaling of rotary positions is in `rope.py`. GGUF has no fields for dynamic NTK and LogN, so an
exported Qwen v1 model loses them.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qianwen.checkpoints.gguf.file import GgufFile, GgufTensor, TensorPlan
from qianwen.checkpoints.gguf.parts import open_gguf, write_parts
from qianwen.checkpoints.gguf.rope import PAIR_DIVISORS, pair_divisors, read_scaling, scaling_metadata
from qianwen.checkpoints.gguf.tensor_types import FILE_TYPES, Rounding, tensor_type
from qianwen.checkpoints.gguf.vocabulary import read_vocabulary, vocabulary_metadata
from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.checkpoints.hf_weights import empty_model, fill, stacked
from qianwen.checkpoints.tensor_names import Stack, check_tensors, stacks
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr
from qianwen.tokenizer.vocab import Vocabulary

ARCHITECTURES = ("qwen", "qwen2", "qwen3", "llama")

NAMES = (
    ("model.embed_tokens.", "token_embd."),
    ("model.layers.", "blk."),
    ("model.norm.", "output_norm."),
    ("lm_head.", "output."),
    (".input_layernorm.", ".attn_norm."),
    (".post_attention_layernorm.", ".ffn_norm."),
    (".self_attn.q_norm.", ".attn_q_norm."),
    (".self_attn.k_norm.", ".attn_k_norm."),
    (".self_attn.q_proj.", ".attn_q."),
    (".self_attn.k_proj.", ".attn_k."),
    (".self_attn.v_proj.", ".attn_v."),
    (".self_attn.o_proj.", ".attn_output."),
    (".mlp.gate_proj.", ".ffn_gate."),
    (".mlp.up_proj.", ".ffn_up."),
    (".mlp.down_proj.", ".ffn_down."),
)
QKV = (".attn_q.", ".attn_k.", ".attn_v.")
FUSED = tuple((ours, ".attn_qkv." if theirs in QKV else theirs) for ours, theirs in NAMES)


class GgufModel:
    """A model in a GGUF file or its parts.

    It has `.config`, `.vocabulary`, the packed `.tensors` by our names, and the raw `.metadata`.
    """

    def __init__(self, path: str | Path) -> None:
        file = open_gguf(path)
        self.path, self.metadata = file.path, file.metadata
        self.config = _read_config(file)
        fused = self.metadata["general.architecture"] == "qwen"
        model = empty_model(self.config, len(file.tensors))
        expected = stacks(model, FUSED if fused else NAMES)
        stored = {name: (self.path, tensor.shape) for name, tensor in file.tensors.items()}
        if self.metadata["general.architecture"] == "llama":
            stored.pop(PAIR_DIVISORS, None)  # it is in the config
        check_tensors(expected, stored, self.path)
        self.tensors = dict(_parameters(file, expected, self.config))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens with the ids of the file."""
        return read_vocabulary(self.metadata, self.path)

    def read(self, dtype: torch.dtype, device: torch.device | str) -> tuple[Qwen, Iterator[tuple[str, Tensor]]]:
        """The empty network, and an iterator that decodes its parameters one by one."""
        parameters = ((name, tensor.dequantize(dtype).to(device)) for name, tensor in self.tensors.items())
        return empty_model(self.config, len(self.tensors)), parameters

    def load(self, *, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu") -> Qwen:
        """The network in `dtype`; decoding runs on all cores."""

        def decoded(name: str) -> tuple[str, Tensor]:
            return name, self.tensors[name].dequantize(dtype).to(device)

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return fill(empty_model(self.config, len(self.tensors)), pool.map(decoded, self.tensors))


def read_gguf(path: str | Path) -> GgufModel:
    """Open a GGUF file. CheckpointError if it is damaged, ConfigError if its network is not supported."""
    return GgufModel(path)


def _read_config(file: GgufFile) -> QwenConfig:
    arch = file.metadata.get("general.architecture")
    if not isinstance(arch, str) or arch not in ARCHITECTURES:
        message = "{path}: architecture {arch!r} is not supported; supported: {known}"
        raise ConfigError(tr(message, path=file.path, arch=arch, known=", ".join(ARCHITECTURES)))

    def read(key: str, default: float | None = None) -> Any:
        return file.number(f"{arch}.{key}", default)

    if file.metadata.get(f"{arch}.attention.causal", True) is not True:
        message = "{path}: attention in both directions ({key} = false) is not supported"
        raise ConfigError(tr(message, path=file.path, key=f"{arch}.attention.causal"))
    if "token_embd.weight" not in file.tensors:
        raise CheckpointError(tr("{path}: tensor token_embd.weight is missing; fetch the file again", path=file.path))
    heads, hidden = read("attention.head_count"), read("embedding_length")
    config = QwenConfig(
        vocab_size=file.tensors["token_embd.weight"].shape[0],
        hidden_size=hidden,
        intermediate_size=read("feed_forward_length") // (2 if arch == "qwen" else 1),
        num_hidden_layers=read("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=read("attention.head_count_kv", heads),
        head_dim=read("attention.key_length", 0),
        max_position_embeddings=read("context_length"),
        rope_theta=read("rope.freq_base", 10000.0),
        rms_norm_eps=read("attention.layer_norm_rms_epsilon"),
        tie_word_embeddings="output.weight" not in file.tensors,
        qkv_bias=arch in ("qwen", "qwen2"),
        qk_norm=arch == "qwen3",
    )
    if (rotated := read("rope.dimension_count", config.head_dim)) != config.head_dim:
        message = "{path}: {rotated} of {head_dim} dimensions of a head are rotated; partial rotation is not supported"
        raise ConfigError(tr(message, path=file.path, rotated=rotated, head_dim=config.head_dim))
    fields: dict[str, Any] = {"train_len": 0} | read_scaling(file, arch, config)
    return replace(config, **fields)


def _parameters(file: GgufFile, expected: Mapping[str, Stack], config: QwenConfig) -> Iterator[tuple[str, GgufTensor]]:
    """Our parameters as packed rows: cut out of fused tensors, with our order of rows."""
    for file_name, stack in expected.items():
        start = 0
        for name, rows in zip(stack.names, stack.rows, strict=True):
            tensor = file.tensors[file_name]
            if len(stack.names) > 1:
                tensor = tensor.take(slice(start, start + rows))
            if file.metadata["general.architecture"] == "llama" and _is_rotated(name):
                tensor = tensor.take(_deinterleaving_order(rows, config.head_dim))
            yield name, tensor
            start += rows


def _is_rotated(name: str) -> bool:
    return ".q_proj." in name or ".k_proj." in name


def _deinterleaving_order(rows: int, head_dim: int) -> np.ndarray:
    """The order of rows that changes neighbouring pairs (llama.cpp) into the two halves of each head (ours)."""
    return np.arange(rows).reshape(-1, head_dim // 2, 2).swapaxes(1, 2).reshape(-1)


# ---- writing ----------------------------------------------------------------------------------------------------


def write_model(
    model: Qwen,
    vocabulary: Vocabulary,
    path: Path,
    *,
    type: str = "F16",
    arch: str = "",
    extra: Mapping[str, Any],
    max_bytes: int | None = None,
    rounding: Rounding | None = None,
) -> Path:
    """Write a model for llama.cpp in one of `FILE_TYPES`.

    `arch`: by default that of the model; `qwen` is the fused layout of v1. `extra`: more metadata, such as name, end
    token and chat template. `max_bytes`: the maximum size of a part. Returns the file, or the first part.
    """
    arch = arch or model.config.architecture
    if type not in FILE_TYPES:
        message = "GGUF type {type} is not supported for export; choose one of {known}"
        raise ConfigError(tr(message, type=type, known=", ".join(FILE_TYPES)))
    metadata = _config_metadata(model.config, arch) | vocabulary_metadata(vocabulary, model.config.vocab_size)
    metadata |= {"general.file_type": FILE_TYPES[type], "general.quantization_version": 2, **extra}
    file_stacks = stacks(model, FUSED if arch == "qwen" else NAMES)
    plans = _plans(file_stacks, type, model.config, rounding or Rounding())
    parameters = dict(model.named_parameters())
    if arch == "llama":
        parameters = {name: _interleaved(name, value, model.config.head_dim) for name, value in parameters.items()}
    tensors = stacked(file_stacks.values(), parameters)
    if model.config.rope_scaling.method == "llama3":
        divisors = pair_divisors(model.config.rope_scaling, model.config)
        plans.append(TensorPlan(PAIR_DIVISORS, "F32", tuple(divisors.shape)))
        tensors = chain(tensors, [divisors])
    return write_parts(path, metadata, plans, tensors, sys.maxsize if max_bytes is None else max_bytes)


def _plans(file_stacks: Mapping[str, Stack], type: str, config: QwenConfig, rounding: Rounding) -> list[TensorPlan]:
    """The tensors of the file. Those of one stack read the same inputs, so what the first one needs is for all."""
    plans = []
    for name, stack in file_stacks.items():
        own = tensor_type(name, stack.shape, type, config.num_hidden_layers, is_tied=config.tie_word_embeddings)
        own = next((rounding.types[part] for part in stack.names if part in rounding.types), own)
        plans.append(TensorPlan(name, own, stack.shape, rounding.importance.get(stack.names[0])))
    return plans


def _interleaved(name: str, parameter: Tensor, head_dim: int) -> Tensor:
    if not _is_rotated(name):
        return parameter
    return parameter.detach().unflatten(0, (-1, 2, head_dim // 2)).transpose(1, 2).flatten(0, 2)


def _config_metadata(config: QwenConfig, arch: str) -> dict[str, Any]:
    config_to_hf(config, arch)  # raises ConfigError if this architecture cannot express the config
    keys: dict[str, Any] = {
        "context_length": config.train_len if config.use_dynamic_ntk else config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": config.intermediate_size * (2 if arch == "qwen" else 1),
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": config.num_key_value_heads,
        "attention.key_length": config.head_dim,
        "attention.value_length": config.head_dim,
        "attention.layer_norm_rms_epsilon": config.rms_norm_eps,
        "rope.dimension_count": config.head_dim,
        "rope.freq_base": float(config.rope_theta),
    }
    metadata = {"general.architecture": arch} | {f"{arch}.{key}": value for key, value in keys.items()}
    return metadata | scaling_metadata(config, arch)
