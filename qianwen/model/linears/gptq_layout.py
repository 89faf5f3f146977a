"""Weights quantised in groups, and their layout in GPTQ checkpoints, such as the published Qwen Int4 and Int8 models.

    w ≈ scale · (code − zero)        one scale and zero for `group_size` inputs of an output; a code has 4 or 8 bits

    qweight  int32 [K · bits / 32, N]   codes of neighbouring inputs, the first in the lowest bits
    qzeros   int32 [G, N · bits / 32]   zeros of neighbouring outputs; version 1 of the format stores zero − 1
    scales   fp16  [G, N]
    g_idx    int32 [K]                  the group of each input; not in order if quantised with desc_act

The search for codes is in `gptq.py`, a linear over them in `gptq_codes.py`, and folders are in `gptq_folder.py`.
Shapes: N outputs, K inputs, G groups.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from qianwen.kernels.packing import SPAN, Quantized

BITS = (4, 8)  # supported bits of a code
TENSORS = ("qweight", "qzeros", "scales", "g_idx")


@dataclass(frozen=True)
class Groups:
    """A weight matrix [N, K] as codes, with a scale and a zero for each group."""

    bits: int
    codes: Tensor  # uint8 [N, K]
    scales: Tensor  # fp16 [N, G]
    zeros: Tensor  # uint8 [N, G], the code of weight zero
    group_of: Tensor  # int32 [K]

    def centred(self) -> "Groups":
        """The same codes with the middle code as the zero of every group."""
        return replace(self, zeros=torch.full_like(self.zeros, 1 << (self.bits - 1)))

    @property
    def is_symmetric(self) -> bool:
        """Whether the zero of every group is the middle code."""
        return bool((self.zeros == 1 << (self.bits - 1)).all())

    @property
    def group_size(self) -> int:
        """Number of inputs in a group, if groups are in order and have the same size; else 0."""
        size = int((self.group_of == self.group_of[0]).sum())
        order = group_order(self.codes.size(1), size, self.group_of.device)
        return size if torch.equal(self.group_of, order) else 0

    def dequantize(self) -> Tensor:
        """The weights, fp32 [N, K]."""
        groups = self.group_of.long()
        return (self.codes.float() - self.zeros.float()[:, groups]) * self.scales.float()[:, groups]

    def quantized(self) -> Quantized | None:
        """The same weights, bit for bit, in a format of the fast kernels; None if no format can represent them."""
        size = self.group_size
        if not self.is_symmetric or not size or size % 32:
            return None
        format, inputs = ("q4_0", 32) if self.bits == 4 else ("int8", SPAN) if size % SPAN == 0 else ("q8_0", 32)
        scales = self.scales.repeat_interleave(size // inputs, dim=1)[:, : -(-self.codes.size(1) // inputs)]
        return Quantized(format, self.codes, scales.contiguous())


def group_order(inputs: int, group_size: int, device: torch.device | None = None) -> Tensor:
    """The group of each input if groups are in order, int32 [K]."""
    return (torch.arange(inputs, device=device) // group_size).int()


def to_gptq(weight: Groups) -> dict[str, Tensor]:
    """The four tensors of a version 1 checkpoint, which stores zero − 1."""
    zeros = (weight.zeros.int() - 1) & ((1 << weight.bits) - 1)
    return {
        "qweight": _packed(weight.codes, weight.bits).T.contiguous(),
        "qzeros": _packed(zeros.T.contiguous(), weight.bits),
        "scales": weight.scales.T.contiguous(),
        "g_idx": weight.group_of.int(),
    }


def from_gptq(tensors: dict[str, Tensor], bits: int, *, zero_offset: int = 1) -> Groups:
    """The inverse of `to_gptq`; `zero_offset` is added to the stored zeros: 1, or 0 in version 2 of the format."""
    codes = _unpacked(tensors["qweight"].T.contiguous(), bits)
    zeros = (_unpacked(tensors["qzeros"], bits) + zero_offset) & ((1 << bits) - 1)
    return Groups(bits, codes, tensors["scales"].T.contiguous(), zeros.T.contiguous(), tensors["g_idx"])


def shapes(outputs: int, inputs: int, groups: int, bits: int) -> dict[str, tuple[torch.dtype, tuple[int, ...]]]:
    """Data type and shape of each of the four tensors."""
    return {
        "qweight": (torch.int32, (inputs * bits // 32, outputs)),
        "qzeros": (torch.int32, (groups, outputs * bits // 32)),
        "scales": (torch.float16, (groups, outputs)),
        "g_idx": (torch.int32, (inputs,)),
    }


def _packed(codes: Tensor, bits: int) -> Tensor:
    """Codes [rows, n] → int32 [rows, n · bits / 32], the first in the lowest bits."""
    codes = codes.to(torch.uint8)
    if bits == 4:
        codes = codes[:, ::2] | codes[:, 1::2] << 4
    return codes.flatten().view(torch.int32).view(len(codes), -1)


def _unpacked(words: Tensor, bits: int) -> Tensor:
    """The inverse of `_packed` → uint8 [rows, n]."""
    codes = words.flatten().view(torch.uint8).view(len(words), -1)
    return torch.stack((codes & 15, codes >> 4), dim=-1).flatten(1) if bits == 4 else codes
