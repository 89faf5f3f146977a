"""Four-bit codes, two to a byte, and their values looked up in a table of sixteen.

The first code of a byte is in its high half, as bitsandbytes has it. Looked up one by one, codes would be as slow as
they are small; so a byte, or two bytes at once, are the index into a table of ready pairs or quadruples.
"""

import functools

import torch
from torch import Tensor

Table = tuple[float, ...]  # the values of the sixteen codes


def joined(codes: Tensor) -> Tensor:
    """uint8 [..., 2n] below 16 → uint8 [..., n]."""
    return codes[..., ::2] << 4 | codes[..., 1::2]


def parted(nibbles: Tensor) -> Tensor:
    """The inverse: uint8 [..., n] → [..., 2n]."""
    return torch.stack((nibbles >> 4, nibbles & 15), dim=-1).flatten(-2)


def look_up(nibbles: Tensor, table: Table, dtype: torch.dtype) -> Tensor:
    """uint8 [n], n even for types of 16 bits → the values [2n] in fp32, or in `dtype` where that has 16 bits."""
    if dtype.itemsize == 2:  # four weights of two bytes are looked up as one number of eight
        index, values = nibbles.view(torch.uint16).int(), _fours(table, dtype, nibbles.device)
    else:
        index, values = nibbles.int(), _pairs(table, nibbles.device)
    return values.index_select(0, index).view(dtype if dtype.itemsize == 2 else torch.float32)


@functools.cache
def _pairs(table: Table, device: torch.device) -> Tensor:
    """A byte → its two values in fp32, as one int64 [256]."""
    code = torch.tensor(table)
    both = torch.stack((code[:, None].expand(16, 16), code.expand(16, 16)), dim=-1)
    return both.contiguous().view(torch.int64).flatten().to(device)


@functools.cache
def _fours(table: Table, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Two bytes, the first lowest → their four values in a 16-bit type, as one int64 [65536]."""
    pairs = _pairs(table, torch.device("cpu")).view(torch.float32).view(256, 2).to(dtype)
    both = torch.cat((pairs.expand(256, 256, 2), pairs[:, None].expand(256, 256, 2)), dim=-1)
    return both.contiguous().view(torch.int64).flatten().to(device)
