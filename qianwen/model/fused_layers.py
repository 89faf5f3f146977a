"""A decoder layer in one kernel call: then the speed of one token is limited only by reading the weights.

    hidden = model(ids, positions, cache, run_layer=fused_layers(model))

    run_layer(layer, x, rotate, cache)      →      qw_layer(layer, step), if all of these are true

    the layer's linears are `PackedLinear`s (bf16 too)          x is one row [1, T, H] of fp32 on the CPU
    the cache is paged and uses our attention kernel            no gradients are recorded

Otherwise the layer runs as an ordinary module. Linears with the same input and format become one: q, k, v; gate and up.
The model has no state about this: the caller of a forward gives `run_layer`. The arguments of the kernels are built
once for a decoder and freed with it.

Shapes: T tokens of a step, H hidden_size, d head_dim.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.operators import Cache, describe_cache
from qianwen.kernels.packing import FORMATS, PADDED_OUTPUTS
from qianwen.model.caches.contiguous import KVCache
from qianwen.model.caches.paged import PagedCache
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import PackedLinear, make_invariant, owned
from qianwen.model.rope import Rotation
from qianwen.model.transformer import Decoder, Layer, Qwen, RMSNorm, RunLayer, run_layer

_FUSED: WeakKeyDictionary[Decoder, FusedLayers] = WeakKeyDictionary()


def fused_layers(model: Qwen, *, is_invariant: bool = False) -> RunLayer:
    """A `run_layer` for `model`: with the kernels if they support the layer, else module by module.

    With `is_invariant` the bits of a token do not depend on the rest of the batch; the linear of the head changes too.
    The first call and a change of `is_invariant` build the arguments of the kernels; other calls are cheap. Linears
    that are replaced after the first call are not noticed.
    """
    if not (operators.available() and model.model.norm.weight.is_cpu):
        return run_layer
    fused = _FUSED.get(model.model)
    if fused is None or fused.is_invariant != is_invariant:
        make_invariant(model, is_invariant)
        fused = _FUSED[model.model] = FusedLayers(model, is_invariant)
    return fused


class _Stack(ctypes.Structure):
    _fields_ = [("linears", c_void_p * 3), ("count", c_int64)]


class _Layer(ctypes.Structure):
    _fields_ = [
        *((name, _Stack) for name in ("qkv", "o", "gate_up", "down")),
        *((name, c_void_p) for name in ("input_norm", "post_norm", "q_norm", "k_norm")),
        ("eps", c_float),
        *((name, c_int64) for name in ("hidden", "heads", "intermediate")),
    ]


class _Step(ctypes.Structure):
    _fields_ = [
        ("x", c_void_p),
        ("tokens", c_int64),
        *((name, c_void_p) for name in ("q_cos", "q_sin", "k_cos", "k_sin", "slots")),
        ("scale", c_float),
        ("window", c_int64),
        ("cache", Cache),
    ]


class FusedLayers:
    """The `run_layer` of one model. Its linears compute with the `limits` that they had on construction."""

    def __init__(self, model: Qwen, is_invariant: bool = False) -> None:
        self.config, self.is_invariant = model.config, is_invariant
        layers = [layer for layer in model.model.layers if isinstance(layer, Layer) and _is_packed(layer)]
        self.layers: dict[nn.Module, _FusedLayer] = {layer: _FusedLayer(layer, model.config) for layer in layers}
        self._rotation: Rotation | None = None
        self._step = _Step()
        self._referenced: tuple[object, ...] = ()  # keeps the memory alive that the step points to

    def __call__(self, layer: nn.Module, x: Tensor, rotate: Rotation, cache: KVCache) -> Tensor:
        fused = self.layers.get(layer)
        if fused is None or not _can_run(x, cache):
            return run_layer(layer, x, rotate, cache)
        assert isinstance(cache, PagedCache)
        if rotate is not self._rotation:  # the first layer of a step
            x = x.contiguous()
            self._begin(x, rotate, cache)
        elif x.data_ptr() != self._step.x:  # the layer before ran as a module, so x is a new tensor
            x = x.contiguous()
            self._step.x, self._referenced = x.data_ptr(), (x, *self._referenced[1:])
        index = fused.index
        (k_pages, v_pages), placement = cache.pages_of(index), cache.placement(index)
        self._step.cache.k, self._step.cache.v = k_pages.data_ptr(), v_pages.data_ptr()
        self._step.slots, self._step.cache.tables = placement.slots.data_ptr(), placement.tables.data_ptr()
        self._step.window = self.config.window(index)
        fused.run(self._step)
        return x

    def _begin(self, x: Tensor, rotate: Rotation, cache: PagedCache) -> None:
        half = self.config.head_dim // 2
        # The tables have the cosines twice, and the sines twice, first negated; the kernel takes each once.
        tables = [
            part[0, :, 0, which].float().contiguous()
            for cos, sin in (rotate.q, rotate.k)
            for part, which in ((cos, slice(0, half)), (sin, slice(half, None)))
        ]
        scale = self.config.head_dim**-0.5
        placements = [cache.placement(layer) for layer in range(self.config.num_hidden_layers)]
        pages = describe_cache(*cache.pages_of(0), placements[0].tables, *cache.lengths)
        pointers = (table.data_ptr() for table in tables)
        self._step = _Step(x.data_ptr(), x.size(1), *pointers, placements[0].slots.data_ptr(), scale, 0, pages)
        self._rotation, self._referenced = rotate, (x, tables, placements, cache.lengths)


class _FusedLayer:
    """The weights of a layer as the struct that the kernel takes; it keeps their memory alive."""

    def __init__(self, layer: Layer, config: QwenConfig) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.index = attention.layer
        parts = (
            (attention.q_proj, attention.k_proj, attention.v_proj),
            (attention.o_proj,),
            (mlp.gate_proj, mlp.up_proj),
            (mlp.down_proj,),
        )
        stacks = [_joined(part) for part in parts]
        norms = (layer.input_layernorm, layer.post_attention_layernorm, attention.q_norm, attention.k_norm)
        weights = [norm.weight.detach().float() if isinstance(norm, RMSNorm) else None for norm in norms]
        self._referenced = stacks, weights
        self.struct = _Layer(
            *(_Stack((c_void_p * 3)(*(linear.address for linear in stack)), len(stack)) for stack in stacks),
            *(None if weight is None else weight.data_ptr() for weight in weights),
            config.rms_norm_eps,
            config.hidden_size,
            config.num_attention_heads,
            config.intermediate_size,
        )

    def run(self, step: _Step) -> None:
        operators.functions().qw_layer(ctypes.addressof(self.struct), ctypes.addressof(step))


def _joined(modules: Sequence[nn.Module]) -> list[operators.Linear]:
    """One kernel for linears with the same format, whose weights are copied side by side; else a kernel for each."""
    linears = [module for module in modules if isinstance(module, PackedLinear)]
    biases = [linear.bias for linear in linears if linear.bias is not None]
    is_even = all(linear.out_features % PADDED_OUTPUTS == 0 for linear in linears[:-1])
    if len(linears) == 1 or not is_even or len(biases) % len(linears) or len({x.format for x in linears}) > 1:
        return [linear.kernel for linear in linears]
    packed = _side_by_side([linear.packed for linear in linears])
    parts = packed.split([len(linear.packed) for linear in linears])
    for linear, part in zip(linears, parts, strict=True):
        linear.packed = part
    shape = sum(linear.out_features for linear in linears), linears[0].in_features
    first, index = linears[0].kernel, FORMATS[linears[0].format].index
    bias = torch.cat(biases) if biases else None
    return [operators.Linear(packed, bias, shape, index, first.limits, first.splits_outliers)]


def _side_by_side(parts: list[Tensor]) -> Tensor:
    """The parts as one tensor [sum of rows, bytes]; without a copy if they are already side by side in memory."""
    first = parts[0]
    ends = [part.storage_offset() + part.numel() for part in parts[:-1]]
    is_one = {part.untyped_storage().data_ptr() for part in parts} == {first.untyped_storage().data_ptr()}
    if is_one and [part.storage_offset() for part in parts[1:]] == ends:
        return first.as_strided((sum(map(len, parts)), first.size(1)), first.stride(), first.storage_offset())
    return owned(torch.cat(parts))


def _is_packed(layer: Layer) -> bool:
    return all(
        isinstance(child, PackedLinear)
        for block in (layer.self_attn, layer.mlp)
        for name, child in block.named_children()
        if name.endswith("_proj")
    )


def _can_run(x: Tensor, cache: KVCache) -> bool:
    return (
        isinstance(cache, PagedCache)
        and cache.kernel is not None
        and x.dtype == torch.float32
        and x.size(0) == 1
        and not torch.is_grad_enabled()
    )
