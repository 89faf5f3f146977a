"""NF4 with double quantisation: four bits for the frozen base of an adapter (Dettmers et al. 2023, QLoRA).

    w ≈ code[c] · s            c has 4 bits; one scale s for 64 weights, their largest absolute value
    s ≈ map[b] · t + m         b has 8 bits; one t for 256 scales, m the mean of all scales: 4.13 bits per weight in all

The 16 values are quantiles of a normal distribution, because weights are nearly normal. The 256 values for the scales
have few digits over many magnitudes. The values, the order of nibbles and the arithmetic are those of bitsandbytes. The
code is plain PyTorch and runs on every device. In 16-bit types code and scale are rounded before they are multiplied.

Networks of such linears are in `checkpoints/nf4_network.py`; fast generation turns them into int8 (`model/serving.py`).
Shapes: N outputs, K inputs, G = N · K / 64 blocks.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.kernels.nibbles import joined, look_up
from qianwen.model.linears.frozen import frozen_linear
from qianwen.model.linears.packed import PackedLinear

BLOCK, SCALES = 64, 256
CHUNK_BLOCKS = 1 << 15  # number of blocks that are encoded at a time
# Quantiles of N(0, 1): eight above zero, seven below and zero itself, scaled to -1 … 1 (appendix E of the paper).
CODE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class Nf4Linear(nn.Module):
    """y = x · Wᵀ + b with W in NF4. The output has the float type of x; only x gets a gradient."""

    def __init__(self, codes: Tensor, scales: Tensor, tops: Tensor, mean: Tensor, shape: tuple[int, int]) -> None:
        super().__init__()
        self.out_features, self.in_features = shape
        self.register_buffer("codes", codes)  # uint8, two weights a byte, the first in its high half
        self.register_buffer("scales", scales)  # uint8 [G]
        self.register_buffer("tops", tops)  # fp32 [G / 256]
        self.register_buffer("mean", mean)  # fp32 []
        self.bias: Tensor | None
        self.register_buffer("bias", None)

    @classmethod
    def from_float(cls, weight: Tensor, bias: Tensor | None = None) -> "Nf4Linear":
        """Quantise `weight` [N, K] of any float type."""
        blocks = F.pad(weight.detach().reshape(-1), (0, -weight.numel() % BLOCK)).view(-1, BLOCK)
        sizes = torch.cat([part.abs().amax(1).float() for part in blocks.split(CHUNK_BLOCKS)])
        code = torch.tensor(CODE, device=weight.device)
        middles = (code[1:] + code[:-1]) / 2
        parts = []
        for part, size in zip(blocks.split(CHUNK_BLOCKS), sizes.split(CHUNK_BLOCKS), strict=True):
            # Multiply by the inverse instead of dividing, as bitsandbytes does, for the same rounding.
            scaled = part.float() * torch.where(size > 0, 1 / size, 0)[:, None]
            nearest = torch.bucketize(scaled, middles).to(torch.uint8)
            parts.append(joined(nearest))
        linear = cls(torch.cat(parts).flatten(), *_quantize_scales(sizes), (weight.size(0), weight.size(1)))
        linear.bias = None if bias is None else bias.detach()
        return linear

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights in `dtype`, [N, K]."""
        small = scale_map(self.scales.device)[self.scales.int()]
        tops = self.tops.repeat_interleave(SCALES)[: len(self.scales)]
        sizes = torch.addcmul(self.mean, small, tops).to(dtype)
        weights = look_up(self.codes, CODE, dtype).view(-1, BLOCK).to(dtype).mul_(sizes[:, None])
        count = self.out_features * self.in_features
        return weights.view(-1)[:count].view(self.out_features, self.in_features)

    def fast(self) -> PackedLinear:
        """An int8 linear that computes without unpacking; its rounding error is far below that of NF4."""
        return PackedLinear.from_float(self.dequantize(), self.bias, format="int8")

    @property
    def num_bytes(self) -> int:
        """Memory of the weights in bytes."""
        return sum(part.numel() * part.element_size() for part in (self.codes, self.scales, self.tops, self.mean))

    def forward(self, x: Tensor) -> Tensor:
        return frozen_linear(x, self.dequantize, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _quantize_scales(sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scales fp32 [G] → their codes uint8 [G], scales of scales fp32 [G / 256], mean fp32 []."""
    mean = sizes.mean()
    blocks = F.pad(sizes - mean, (0, -len(sizes) % SCALES)).view(-1, SCALES)
    tops = blocks.abs().amax(1)
    values = scale_map(sizes.device)
    middles = (values[1:] + values[:-1]) / 2
    scaled = blocks * torch.where(tops > 0, 1 / tops, 0)[:, None]
    return torch.bucketize(scaled, middles).to(torch.uint8).flatten()[: len(sizes)].contiguous(), tops, mean


@functools.cache
def scale_map(device: torch.device) -> Tensor:
    """The 256 values of bitsandbytes' dynamic map: seven magnitudes, each with twice as many steps as the one below."""
    positive = []
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        positive += (10.0 ** (exponent - 6) * (edges[1:] + edges[:-1]) / 2).tolist()
    return torch.tensor(sorted([*positive, *(-value for value in positive), 0.0, 1.0]), device=device)
