"""Linears over packed weights: the drop-in for `nn.Linear` that makes a model small and fast.

    model = pack_model(model, bits=4)       every linear of the network becomes a `PackedLinear`, one after another

The network never learns of it: a `PackedLinear` is called like the linear it replaces. Activations are quantised too,
on the fly, 128 of a row to a scale, so that products are sums of bytes; a row with an outlier takes two. bf16 weights
are multiplied in fp32. With AMX a great many rows meet the weights in bytes with wider scales, bf16 ones in bfloat16.
Few and many rows are computed in different ways (`kernels/linears.h`), and the switch between them is measured on the
machine. On an NVIDIA GPU (`kernels/cuda.py`) activations stay as they are: few rows read the packed weights, many
meet them unpacked, a part at a time.

Without the kernels (no compiler, another processor), and to train what lies beside them, the weights are unpacked at
every call: right, but slow.
Not here: the grids (`rounding.py`, `gptq.py`), the layout (`packing.py`), whole layers in one call (`fused_layers.py`).
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
Progress = Callable[[Iterator[str], int], Iterator[str]]  # names and their number → the names, shown as they pass
HEAD_BITS = 8  # at least, of the head: few bits do most harm there
UNPACKED_WEIGHTS = 1 << 26  # at most, that are floats at once on a GPU


class PackedLinear(nn.Module):
    """y = x · Wᵀ + b with W in one of `packing.FORMATS`. Takes and gives any float type; a gradient flows to x."""

    def __init__(self, format: str, packed: Tensor, outputs: int, inputs: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.format, self.out_features, self.in_features = format, outputs, inputs
        self.register_buffer("packed", packed)
        self.register_buffer("bias", None if bias is None else bias.detach().float())
        self.limits: operators.Limits | None = None  # which way for how many rows; None: as measured
        self.splits_outliers = False  # twice the bits for rows with one
        self._kernel: operators.Linear | None = None

    @classmethod
    def from_float(
        cls, weight: Tensor, bias: Tensor | None = None, *, format: str = "int4", importance: Tensor | None = None
    ) -> "PackedLinear":
        """Quantise `weight` [N, K] without data; `importance` [K] is what `quantize_affine` takes."""
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
        """Pack integers and scales as they are."""
        return cls(weight.format, owned(pack(weight)), weight.codes.size(0), weight.codes.size(1), bias)

    @property
    def packed_bytes(self) -> int:
        """Bytes read from memory to use the weights once."""
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
        learns = torch.is_grad_enabled() and x.requires_grad
        gpu = on_gpu(self.packed)
        if learns or self.format == "bf16" and gpu or not (gpu or self.packed.is_cpu and operators.available()):
            return frozen_linear(x, self.dequantize, self.bias)
        rows = x.reshape(-1, self.in_features)
        if gpu is None:
            out = self.kernel(rows.float().contiguous())
        elif len(rows) <= gpu.MOST_ROWS:
            out = gpu.few_rows(rows.contiguous(), self.packed, self.format, self.out_features, self.bias)
        else:
            step = max(UNPACKED_WEIGHTS // self.in_features // PANEL, 1) * PANEL
            parts = [self._some_outputs(gpu, rows, start, step) for start in range(0, self.out_features, step)]
            out = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return out.view(*x.shape[:-1], self.out_features).to(x.dtype)

    def _some_outputs(self, gpu: ModuleType, rows: Tensor, start: int, count: int) -> Tensor:
        """Those from `start` on, whose weights are unpacked meanwhile."""
        end = min(start + count, self.out_features)
        panels = self.packed[start // PANEL : -(-end // PANEL)]
        weight = gpu.unpack(panels, self.format, end - start, self.in_features, rows.dtype)
        return F.linear(rows, weight, None if self.bias is None else self.bias[start:end].to(rows.dtype))

    @property
    def kernel(self) -> operators.Linear:
        """What the C functions take; made anew after something changed."""
        limits = self.limits or operators.limits(self.format)
        wanted, kernel = (limits, self.splits_outliers), self._kernel
        if kernel is None or kernel.tensors[0] is not self.packed or (kernel.limits, kernel.splits_outliers) != wanted:
            shape = self.out_features, self.in_features
            kernel = operators.Linear(self.packed, self.bias, shape, FORMATS[self.format].index, *wanted)
            self._kernel = kernel
        return kernel

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_kernel": None}

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, format={self.format}"


def owned(packed: Tensor) -> Tensor:
    """The same bytes in memory of large pages, or of their own on a GPU."""
    if not packed.is_cpu:
        return packed.clone()
    return operators.huge_tensor(packed.numel()).view(packed.shape).copy_(packed)


class Bf16Embedding(nn.Embedding):
    """A table of bfloat16 whose rows come out in fp32, as the fp32 stream of a quantised model wants them."""

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
    """Swap every linear of the network in place, one after another, so that only one exists twice at a time.

    The head has `head_bits`. A tied embedding stays, in bf16.
    """
    for wanted in (bits, head_bits):
        if wanted not in FORMAT_OF_BITS:
            known = ", ".join(map(str, FORMAT_OF_BITS))
            raise ConfigError(tr("{bits} bits is not supported; choose one of {known}", bits=wanted, known=known))
    norms = dict(linear_norms(model))
    for name in progress(iter(norms), len(norms)) if progress else norms:
        linear = model.get_submodule(name)
        assert isinstance(linear, nn.Linear)
        format = FORMAT_OF_BITS[head_bits if name == "lm_head" else bits]
        packed = PackedLinear.from_float(linear.weight, linear.bias, format=format, importance=importance(norms[name]))
        replace_module(model, name, packed)
    return finish(model)


def finish(model: Qwen) -> Qwen:
    """What is left once all linears are packed: the embedding becomes bf16, the norms fp32, outliers are split."""
    split_outliers(model)
    table = model.model.embed_tokens.weight.detach()
    # Given its weight, torch draws none: on the meta device that would import torch's compiler, three seconds.
    model.model.embed_tokens = Bf16Embedding(table.size(0), table.size(1), _weight=table.bfloat16(), _freeze=True)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data = parameter.data.float()
    return model.requires_grad_(False).eval()


def split_outliers(model: Qwen) -> None:
    """Let the feed-forwards' first linears spend twice the bits on rows with an outlier (`kernels/outliers.h`).

    The first token of a text has one, which a late layer takes away again. Gate and up are multiplied, and so is what
    rounding took from both.
    """
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear) and set(name.split(".")) & {"gate_proj", "up_proj"}:
            module.splits_outliers = True


def to_device(model: Qwen, device: torch.device) -> Qwen:
    """Move a packed network. On a GPU all that is not packed computes in the GPU's own type, as its kernels do."""
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
    """How much each input matters to a linear that reads a norm's output: its mean square, known without data."""
    return None if norm is None else norm.detach().float().square()


def linear_norms(model: Qwen) -> Iterator[tuple[str, Tensor | None]]:
    """The name of every linear, with the weight of the norm whose output it reads, if there is one."""
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
    """Compute any number of rows in one way, so that a row's bits depend on that row alone.

    False takes that back: each number of rows is computed in the way measured to be fastest.
    """
    for module in model.modules():
        if isinstance(module, PackedLinear):
            module.limits = operators.ONE_WAY if is_invariant else None
    return model
