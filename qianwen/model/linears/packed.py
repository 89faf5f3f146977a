"""Linears with packed weights: a replacement for `nn.Linear` that makes a model small and fast.

    model = pack_model(model, bits=4)       every linear of the network becomes a `PackedLinear`, one after another

A `PackedLinear` is called like the linear it replaces, so the network does not change. Activations are quantised at run
time, with one scale for 128 values of a row, so products are sums of bytes. A row with an outlier takes two such sums.
bf16 weights are multiplied in fp32. With AMX, many rows use bytes with coarser scales, or bfloat16 for bf16 weights.
Few and many rows use different algorithms (`kernels/linears.h`); the switch between them is measured on the machine. On
an NVIDIA GPU (`kernels/cuda.py`) activations are not quantised: few rows read the packed weights, and for many rows the
weights are unpacked, one part at a time.

The weights are unpacked at every call, which is correct but slow, if the kernels cannot run (no compiler, another
processor) and if a gradient is needed. Quantisation is in `rounding.py` and `gptq.py`, the layout of packed weights in
`packing.py`, and layers in one call are in `fused_layers.py`.
"""

from collections.abc import Callable, Iterator
from types import ModuleType

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.kernels.dispatch import on_gpu
from qianwen.kernels.packing import FORMATS, PANEL, Quantized, pack, pack_dense, unpack, unpack_dense
from qianwen.kernels.rounding import quantize_affine, quantize_int8
from qianwen.model.linears.frozen import frozen_linear
from qianwen.model.transformer import Layer, Qwen, replace_module
from qianwen.runtime.device import compute_dtype
from qianwen.runtime.errors import ConfigError
from qianwen.runtime.translation import tr

FORMAT_OF_BITS = {4: "int4", 5: "int5", 8: "int8", 16: "bf16"}
Progress = Callable[[Iterator[str], int], Iterator[str]]  # (names, their number) → the names, with a progress bar
HEAD_BITS = 8  # bits of the head, where few bits do the most harm
UNPACKED_WEIGHTS = 1 << 26  # maximum number of weights that are unpacked at the same time on a GPU


class PackedLinear(nn.Module):
    """y = x · Wᵀ + b with W in one of `packing.FORMATS`. The output has the float type of x; only x gets a gradient."""

    def __init__(self, format: str, packed: Tensor, outputs: int, inputs: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.format, self.out_features, self.in_features = format, outputs, inputs
        self.register_buffer("packed", packed)
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self.limits: operators.Limits | None = None  # numbers of rows for each algorithm; None: as measured
        self.splits_outliers = False  # use twice the bits for rows with an outlier
        self._kernel: operators.Linear | None = None

    @classmethod
    def from_float(
        cls, weight: Tensor, bias: Tensor | None = None, *, format: str = "int4", importance: Tensor | None = None
    ) -> "PackedLinear":
        """Quantise `weight` [N, K] without data; `importance` [K] weighs the inputs (`quantize_affine`)."""
        if format == "bf16":
            return cls(format, owned(pack_dense(weight.detach())), weight.size(0), weight.size(1), bias)
        if format == "int8":
            return cls.from_quantized(quantize_int8(weight.detach()), bias)
        if format in ("int4", "int5"):
            return cls.from_quantized(quantize_affine(weight.detach(), FORMATS[format].bits, importance), bias)
        known = ", ".join(FORMAT_OF_BITS.values())
        raise ConfigError(tr("{format} cannot be made from floats; choose one of {known}", format=format, known=known))

    @classmethod
    def from_quantized(cls, weight: Quantized, bias: Tensor | None = None) -> "PackedLinear":
        """Pack codes and scales without a change."""
        return cls(weight.format, owned(pack(weight)), weight.codes.size(0), weight.codes.size(1), bias)

    @property
    def packed_bytes(self) -> int:
        """Number of bytes that one use of the weights reads."""
        return self.packed.numel()

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights in `dtype`, [N, K]."""
        shape = self.out_features, self.in_features
        if self.format == "bf16":
            return unpack_dense(self.packed, *shape).to(dtype)
        if gpu := on_gpu(self.packed):
            return gpu.unpack(self.packed, self.format, *shape, dtype)
        return unpack(self.packed, self.format, *shape).dequantize().to(dtype)

    def forward(self, x: Tensor) -> Tensor:
        needs_grad = torch.is_grad_enabled() and x.requires_grad
        gpu = on_gpu(self.packed)
        if needs_grad or self.format == "bf16" and gpu or not (gpu or self.packed.is_cpu and operators.available()):
            return frozen_linear(x, self.dequantize, self.bias)
        rows = x.reshape(-1, self.in_features)
        if gpu is None:
            out = self.kernel(rows.float().contiguous())
        elif len(rows) <= gpu.MOST_ROWS:
            out = gpu.few_rows(rows.contiguous(), self.packed, self.format, self.out_features, self.bias)
        else:
            step = max(UNPACKED_WEIGHTS // self.in_features // PANEL, 1) * PANEL
            parts = [self._unpacked_outputs(gpu, rows, start, step) for start in range(0, self.out_features, step)]
            out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _unpacked_outputs(self, gpu: ModuleType, rows: Tensor, start: int, count: int) -> Tensor:
        """The outputs [start, start + count), computed with unpacked weights."""
        end = min(start + count, self.out_features)
        panels = self.packed[start // PANEL : -(-end // PANEL)]
        weight = gpu.unpack(panels, self.format, end - start, self.in_features, rows.dtype)
        return F.linear(rows, weight, None if self.bias is None else self.bias[start:end].to(rows.dtype))

    @property
    def kernel(self) -> operators.Linear:
        """The argument of the C functions; built again after `packed`, `limits` or `splits_outliers` changed."""
        limits = self.limits or operators.limits(self.format)
        options, kernel = (limits, self.splits_outliers), self._kernel
        if kernel is None or kernel.tensors[0] is not self.packed or (kernel.limits, kernel.splits_outliers) != options:
            shape = self.out_features, self.in_features
            kernel = operators.Linear(self.packed, self.bias, shape, FORMATS[self.format].index, *options)
            self._kernel = kernel
        return kernel

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kernel": None}

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, format={self.format}"


def owned(packed: Tensor) -> Tensor:
    """A copy of the bytes in its own memory, with huge pages on a CPU."""
    if not packed.is_cpu:
        return packed.clone()
    return operators.huge_tensor(packed.numel()).view(packed.shape).copy_(packed)


class Bf16Embedding(nn.Embedding):
    """An embedding in bfloat16 that returns fp32, the type of activations in a quantised model."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input).float()


@torch.no_grad()
def pack_model(
    model: Qwen,
    bits: int = 4,
    *,
    head_bits: int = HEAD_BITS,
    progress: Callable[[Iterator, int], Iterator] | None = None,
) -> Qwen:
    """Replace all linears of the network in place, one after another, so that only one is in memory twice.

    The head gets `head_bits`. The embedding becomes bf16, also if it was tied to the head.
    """
    for number in (bits, head_bits):
        if number not in FORMAT_OF_BITS:
            known = ", ".join(map(str, FORMAT_OF_BITS))
            raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=number, known=known))
    norms = dict(linear_norms(model))
    for name in progress(iter(norms), len(norms)) if progress else norms:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        format = FORMAT_OF_BITS[head_bits if name == "lm_head" else bits]
        packed = PackedLinear.from_float(linear.weight, linear.bias, format=format, importance=importance(norms[name]))
        replace_module(model, name, packed)
    return finish(model)


def finish(model: Qwen) -> Qwen:
    """The last step of packing: the embedding becomes bf16, the norms become fp32, and outliers are split."""
    split_outliers(model)
    table = model.model.embed_tokens.weight.detach()
    # With `_weight` torch does not draw one; on the meta device that would import torch's compiler (3 s).
    model.model.embed_tokens = Bf16Embedding(table.size(0), table.size(1), _weight=table.bfloat16(), _freeze=True)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data = parameter.data.float()
    return model.requires_grad_(False).eval()


def split_outliers(model: Qwen) -> None:
    """Use twice the bits for rows with an outlier in gate_proj and up_proj (`kernels/outliers.h`).

    The first token of a text has an outlier, which a late layer removes again. Gate and up are multiplied with each
    other, so their rounding errors multiply too.
    """
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear) and set(name.split(".")) & {"gate_proj", "up_proj"}:
            module.splits_outliers = True


def to_device(model: Qwen, device: torch.device) -> Qwen:
    """Move a packed network to a device. On a GPU the other modules get the GPU's compute type, as its kernels have."""
    if device.type == "cpu":
        return model
    dtype, table = compute_dtype(device), model.model.embed_tokens.weight.detach()
    weight = table.to(device, dtype)
    model.model.embed_tokens = nn.Embedding(weight.size(0), weight.size(1), _weight=weight, _freeze=True)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data = parameter.data.to(device, dtype)
    return model.to(device)


def importance(norm: Tensor | None) -> Tensor | None:
    """Mean square of each input of a linear that reads the output of a norm, estimated without data: weight²."""
    return None if norm is None else norm.detach().float().square()


def linear_norms(model: Qwen) -> Iterator[tuple[str, Tensor | None]]:
    """The name of each linear, with the weight of the norm whose output it reads, or None."""
    for name, module in model.named_modules():
        if isinstance(module, Layer):
            for part in ("q_proj", "k_proj", "v_proj"):
                yield f"{name}.self_attn.{part}", module.input_layernorm.weight
            yield f"{name}.self_attn.o_proj", None
            for part in ("gate_proj", "up_proj"):
                yield f"{name}.mlp.{part}", module.post_attention_layernorm.weight
            yield f"{name}.mlp.down_proj", None
    yield "lm_head", model.model.norm.weight


def make_invariant(model: Qwen, is_invariant: bool = True) -> Qwen:
    """Use the same algorithm for any number of rows, so that the bits of a row depend on this row alone.

    False uses the algorithm that was measured to be fastest for each number of rows.
    """
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.limits = operators.ONE_WAY if is_invariant else None
    return model
