"""Prediction of the memory of a run, by part (tables of the Qwen README: memory of fine-tuning and generation).

    weights       counted on the meta device, which allocates no memory; at their number of bits
    trained       for every trained weight: master, gradient and two moments in fp32, and the computing copy
    activations   one layer runs on the meta device, and the tensors that autograd saves are counted
    cache         keys and values of `seq_len` tokens; in layers with a window, of those that they see
    logits        one chunk of the loss, or one row of scores
    work          the largest temporary buffers: an unpacked matrix, the gradients of one feed-forward
    libraries     Python and PyTorch themselves

Nothing is measured here; `docs/log.md` compares predictions with measured peaks. Extra memory that a caching allocator
holds is not included. Sharded parts are divided by `gpus`; activations, logits and work are not.
"""

import functools
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Literal

import torch
from torch import Tensor, nn

from qianwen.model.account import cache_bytes, num_embedding_parameters, num_parameters
from qianwen.model.config import PRESETS, QwenConfig
from qianwen.model.linears.lora import LoraConfig, LoraLinear
from qianwen.model.rope import RotaryEmbedding
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Layer, replace_module
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

Task = Literal["generate", "qlora", "lora", "full"]
# Bits of a layer's weight with its scales, and of the head: as the packed linears and NF4 keep them.
WEIGHT_BITS = {16: (16.0, 16.0), 8: (8.125, 8.125), 5: (5.63, 8.125), 4: (4.5, 8.125)}
NF4_BITS = 4.13
MASTER, GRADIENT, MOMENTS = 4, 4, 8  # bytes of a trained weight
LOSS_CHUNK = 512  # rows of scores at once
LOSS_BYTES = 8  # of a score: its product, its fp32 and its gradient, at their peak
LIBRARIES = 0.45e9
GIGABYTE = 1e9


@dataclass(frozen=True)
class Memory:
    """Bytes by part on one of `gpus` devices."""

    parts: Mapping[str, float]
    gpus: int = 1

    @property
    def total(self) -> float:
        return sum(self.parts.values())


def memory(
    config: QwenConfig,
    task: Task,
    seq_len: int,
    *,
    bits: int = 16,
    lora: LoraConfig | None = None,
    recompute: bool = True,
    gpus: int = 1,
    itemsize: int = 2,
) -> Memory:
    """The memory that one of `gpus` devices needs for `task` on one sequence of `seq_len` tokens at a time.

    `bits`: per weight, for generation. `recompute`: activations are recomputed in the backward pass. `itemsize`: bytes
    of the computing type. Raises ConfigError for values that are not valid.
    """
    _check(seq_len, gpus)
    if task == "generate":
        return generation_memory(config, seq_len, bits=bits, gpus=gpus, itemsize=itemsize)
    lora = lora or LoraConfig()
    trained = num_parameters(config) if task == "full" else lora_parameters(config, lora)
    frozen = (
        0.0 if task == "full" else weight_bytes(config, NF4_BITS if task == "qlora" else 8 * itemsize, 8 * itemsize)
    )
    state = trained * ((itemsize if itemsize < 4 else 0) + MASTER + GRADIENT + MOMENTS)
    layer, stream = _saved_bytes(config, task, seq_len, itemsize, lora), seq_len * config.hidden_size * itemsize
    layers = config.num_hidden_layers
    unpacked = config.hidden_size * config.intermediate_size * itemsize if task == "qlora" else 0
    return Memory(
        {
            "weights": frozen / gpus,
            "trained": state / gpus,
            "activations": layers * stream + layer if recompute else layers * layer,
            "logits": min(seq_len, LOSS_CHUNK) * config.vocab_size * LOSS_BYTES,
            "work": unpacked + 4 * seq_len * config.intermediate_size * itemsize,
            "libraries": LIBRARIES,
        },
        gpus,
    )


def generation_memory(
    config: QwenConfig, seq_len: int, *, bits: int = 16, kv_cache: str = "auto", gpus: int = 1, itemsize: int = 2
) -> Memory:
    """The memory of generating one text of `seq_len` tokens, prompt and answer together.

    `kv_cache`: type of keys and values; auto: the computing type, bfloat16, or int8 with two float16 for each head.
    """
    _check(seq_len, gpus)
    kv_bits = {"bfloat16": 16.0, "int8": 8 * (1 + 4 / config.head_dim)}.get(kv_cache, 8.0 * itemsize)
    if bits not in WEIGHT_BITS:
        known = ", ".join(map(str, sorted(WEIGHT_BITS)))
        raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=bits, known=known))
    layers, head = WEIGHT_BITS[bits]
    return Memory(
        {
            "weights": weight_bytes(config, layers, head) / gpus,
            "cache": cache_bytes(config, seq_len, kv_bits) / gpus,
            "logits": config.vocab_size * 4,
            "work": LOSS_CHUNK * 4 * config.intermediate_size * 4,
            "libraries": LIBRARIES,
        },
        gpus,
    )


def _check(seq_len: int, gpus: int) -> None:
    if seq_len < 1 or gpus < 1:
        raise ConfigError(tr("seq_len = {seq_len} and gpus = {gpus} must be at least 1", seq_len=seq_len, gpus=gpus))


def weight_bytes(config: QwenConfig, layer_bits: float, head_bits: float) -> float:
    """Bytes of all weights; the embedding has sixteen bits; a tied head with fewer bits is a separate copy."""
    table = config.vocab_size * config.hidden_size
    inside = num_parameters(config) - num_embedding_parameters(config)
    head = table * head_bits / 8 if head_bits < 16 or not config.tie_word_embeddings else 0
    return inside * layer_bits / 8 + table * 2 + head


def lora_parameters(config: QwenConfig, lora: LoraConfig) -> int:
    """Trained weights of an adapter."""
    linears = _linears(config, lora)
    low = sum(lora.rank * (int(linear.in_features) + int(linear.out_features)) for linear in linears.values())
    table = config.vocab_size * config.hidden_size
    num_tables = len(lora.modules_to_save) and (1 if config.tie_word_embeddings else len(lora.modules_to_save))
    return config.num_hidden_layers * low + num_tables * table


@functools.cache
def _layer(config: QwenConfig) -> Layer:
    with torch.device("meta"):
        return Layer(config, 0)


def _linears(config: QwenConfig, lora: LoraConfig) -> dict[str, nn.Linear]:
    modules = _layer(config).named_modules()
    return {
        name: module
        for name, module in modules
        if isinstance(module, nn.Linear) and name.rpartition(".")[2] in lora.target_modules
    }


class _Attended(torch.autograd.Function):
    """Replaces fused attention: saves queries, keys, values and the result for the backward pass, but no scores."""

    @staticmethod
    def forward(ctx, q: Tensor, k: Tensor, v: Tensor) -> Tensor:  # noqa: ANN001
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out)
        return out


class _NoCache:
    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out: Tensor = _Attended.apply(q, k, v)
        return out


def _saved_bytes(config: QwenConfig, task: Task, seq_len: int, itemsize: int, lora: LoraConfig) -> float:
    """Bytes that autograd saves for one layer over `seq_len` tokens, including its input."""
    dtype = torch.bfloat16 if itemsize == 2 else torch.float32
    with torch.device("meta"):
        layer = Layer(config, 0).to(dtype).requires_grad_(task == "full")
        if task != "full":
            for name, linear in _linears(config, lora).items():
                replace_module(layer, name, LoraLinear(linear.to(dtype), lora.rank, 1.0, lora.dropout).to(dtype))
        x = torch.empty(1, seq_len, config.hidden_size, dtype=dtype, requires_grad=True)
        rotate = RotaryEmbedding(config)(torch.arange(seq_len)[None], RopeState())
        own = {part.untyped_storage()._cdata for part in (*layer.parameters(), *rotate.k)}
        saved: dict[int, int] = {x.untyped_storage()._cdata: x.untyped_storage().nbytes()}

        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in own:
                saved[storage._cdata] = storage.nbytes()
            alive.append(tensor)
            return tensor

        alive: list[
            Tensor
        ] = []  # keep all tensors alive: a freed storage's address could be used again and counted once
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            layer(x, rotate, _NoCache())
    return sum(saved.values())


# ---- beside what was published ------------------------------------------------------------------------------------


@functools.cache
def published() -> dict:
    """Published peaks in GB: `generate` size → bits, `finetune` size → method → seq_len; keys are text."""
    return tomllib.loads(resources.files("qianwen.train").joinpath("published_memory.toml").read_text())


def published_size(config: QwenConfig) -> str:
    """The published size of this shape: 1.8b, 7b, 14b, 72b; empty for another."""
    shape = (config.hidden_size, config.intermediate_size, config.num_hidden_layers)
    for name in published()["generate"]:
        preset = PRESETS[name]
        if shape == (preset.hidden_size, preset.intermediate_size, preset.num_hidden_layers):
            return name
    return ""
