"""A linear with the codes of a GPTQ checkpoint: the base model of the released Q-LoRA scripts.

Codes stay at four (or eight) bits and are unpacked at every call, so a gradient can pass and only one matrix of floats
exists at a time. For fast generation `fast` converts them for the packed kernels: bit for bit if they are symmetric and
in order, else rounded to eight bits.
Shapes: N outputs, K inputs, G groups.
"""

import torch
from torch import Tensor, nn

from qianwen.kernels.nibbles import joined, look_up, parted
from qianwen.model.linears.frozen import frozen_linear
from qianwen.model.linears.gptq_layout import Groups
from qianwen.model.linears.packed import PackedLinear

CENTRED = tuple(float(code - 8) for code in range(16))


class GptqLinear(nn.Module):
    """y = x · Wᵀ + b with W quantised in groups. The output has the float type of x; only x gets a gradient."""

    def __init__(self, weight: Groups, bias: Tensor | None = None) -> None:
        super().__init__()
        self.bits = weight.bits
        self.out_features, self.in_features = weight.codes.shape
        self.is_symmetric, self.group_size = weight.is_symmetric, weight.group_size
        is_narrow = self.bits == 4 and self.in_features % 4 == 0
        self.register_buffer("codes", joined(weight.codes) if is_narrow else weight.codes)
        self.register_buffer("scales", weight.scales)  # fp16 [N, G]
        self.register_buffer("zeros", weight.zeros)  # uint8 [N, G]
        self.register_buffer("group_of", weight.group_of)  # int32 [K]
        self.register_buffer("bias", None if bias is None else bias.detach())

    @property
    def groups(self) -> Groups:
        """The weight as `Groups`, as given to the constructor."""
        codes = self.codes if self.codes.size(1) == self.in_features else parted(self.codes)
        return Groups(self.bits, codes, self.scales, self.zeros, self.group_of)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """The weights in `dtype`, [N, K]."""
        middle = float(1 << (self.bits - 1))
        if self.codes.size(1) == self.in_features:
            centred = self.codes.to(dtype).sub_(middle)
        else:
            centred = look_up(self.codes.flatten(), CENTRED, dtype).view(self.out_features, -1).to(dtype)
        scales = self.scales.to(dtype)
        shift = None if self.is_symmetric else (self.zeros.to(dtype) - middle) * scales
        if self.group_size and self.in_features % self.group_size == 0:
            groups = centred.view(self.out_features, -1, self.group_size).mul_(scales[..., None])
            return (groups if shift is None else groups.sub_(shift[..., None])).view(self.out_features, -1)
        index = self.group_of.long()
        centred.mul_(scales[:, index])
        return centred if shift is None else centred.sub_(shift[:, index])

    def fast(self) -> PackedLinear:
        """A linear with the same weights, packed for the fast kernels."""
        exact = self.groups.quantized()
        if exact is not None:
            return PackedLinear.from_quantized(exact, self.bias)
        return PackedLinear.from_float(self.dequantize(), self.bias, format="int8")

    @property
    def num_bytes(self) -> int:
        """Memory of the weights in bytes."""
        parts = (self.codes, self.scales, self.zeros, self.group_of)
        return sum(part.numel() * part.element_size() for part in parts)

    def forward(self, x: Tensor) -> Tensor:
        return frozen_linear(x, self.dequantize, self.bias)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}, bits={self.bits}"
