"""NF4 with double quantisation: four bits for weights that are trained over, not on (Dettmers et al. 2023, QLoRA).

    w ≈ code[c] · s            c of 4 bits; s one scale for 64 weights, the largest of their sizes
    s ≈ map[b] · t + m         b of 8 bits; t one for 256 scales, m the mean of all: 4.13 bits a weight in the end

The 16 codes are quantiles of a normal distribution, which is how weights lie; the 256 of the scales have few digits
over many magnitudes. Both, the order of nibbles and the arithmetic are those of bitsandbytes. Plain PyTorch, so it runs
wherever torch does. In 16-bit types code and scale are rounded before they are multiplied.

Not here: whole networks (`checkpoints/nf4_network.py`); fast answers, for which the linears become int8
(`model/serving.py`).
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
CHUNK_BLOCKS = 1 << 15  # blocks encoded at a time
# Quantiles of N(0, 1), eight above zero and seven below, zero itself and both ends at ±1 (the paper's appendix E).
CODE = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip


class Nf4Linear(nn.Module):
    """y = x · Wᵀ + b with W in NF4. Takes and gives any float type; a gradient flows to x."""

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
            # Its inverse is multiplied, not divided by: so does bitsandbytes.
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
        """An int8 linear that answers without unpacking; the rounding to eight bits is far below that of NF4."""
        return PackedLinear.from_float(self.dequantize(), self.bias, format="int8")

    @property
    def num_bytes(self) -> int:
        """Memory that the weights take."""
        return sum(part.numel() * part.element_size() for part in (self.codes, self.scales, self.tops, self.mean))

    def forward(self, x: Tensor) -> Tensor:
        return frozen_linear(x, self.dequantize, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _quantize_scales(sizes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """fp32 [G] → uint8 [G], fp32 [G / 256], fp32 []."""
    mean = sizes.mean()
    blocks = F.pad(sizes - mean, (0, -len(sizes) % SCALES)).view(-1, SCALES)
    tops = blocks.abs().amax(1)
    values = scale_map(sizes.device)
    middles = (values[1:] + values[:-1]) / 2
    scaled = blocks * torch.where(tops > 0, 1 / tops, 0)[:, None]
    return torch.bucketize(scaled, middles).to(torch.uint8).flatten()[: len(sizes)].contiguous(), tops, mean


@functools.cache
def scale_map(device: torch.device) -> Tensor:
    """The 256 numbers of bitsandbytes' dynamic map: seven magnitudes, each with twice the steps of the one below."""
    positive = []
    for exponent in range(7):
        edges = torch.linspace(0.1, 1, 2**exponent + 1)
        positive += (10.0 ** (exponent - 6) * (edges[1:] + edges[:-1]) / 2).tolist()
    return torch.tensor(sorted([*positive, *(-value for value in positive), 0.0, 1.0]), device=device)
