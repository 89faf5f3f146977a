"""Packing rounds nothing and loses nothing, for every format and any size."""

from collections.abc import Callable

import pytest
import torch

from qianwen.kernels.packing import FORMATS, Quantized, pack, pack_dense, packed_shape, unpack, unpack_dense

SIZES = [(64, 128), (70, 200), (128, 896), (130, 256), (16, 1664)]
RandomWeight = Callable[[str, int, int], Quantized]
INTEGERS = [name for name in FORMATS if name != "bf16"]


@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("size", SIZES)
def test_unpack_is_the_inverse(random_weight: RandomWeight, format: str, size: tuple[int, int]) -> None:
    weight = random_weight(format, *size)
    back = unpack(pack(weight), format, *size)
    for name in ("codes", "d", "s", "e", "t"):
        before, after = getattr(weight, name), getattr(back, name)
        assert before is after is None or torch.equal(before, after)


@pytest.mark.parametrize(
    ("format", "bits"),
    [("int4", 4.625), ("int5", 5.625), ("q4_0", 4.5), ("q5_0", 5.5), ("q6_k", 6.5625), ("q8_0", 8.5), ("int8", 8.125)],
)
def test_bits_per_weight(random_weight: RandomWeight, format: str, bits: float) -> None:
    assert pack(random_weight(format, 64, 512)).numel() * 8 == bits * 64 * 512


def test_padding_is_weight_zero(random_weight: RandomWeight) -> None:
    for format in INTEGERS:
        weight = random_weight(format, 70, 200)
        padded = unpack(pack(weight), format, *packed_shape(70, 200)).dequantize()
        assert padded[70:].count_nonzero() == padded[:, 224:].count_nonzero() == 0


@pytest.mark.parametrize("size", [*SIZES, (3, 5)])
def test_dense_weights_round_only_to_bfloat16(size: tuple[int, int]) -> None:
    weight = torch.randn(size)
    assert torch.equal(unpack_dense(pack_dense(weight), *size), weight.bfloat16())
