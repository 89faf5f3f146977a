"""The layout of GPTQ checkpoints, read back by an independent reader in NumPy."""

import numpy as np
import pytest
import torch

from qianwen.model.linears.gptq_layout import Groups, from_gptq, group_order, shapes, to_gptq


def random_groups(bits: int, outputs: int = 16, inputs: int = 256, size: int = 128, sym: bool = True) -> Groups:
    groups = -(-inputs // size)
    codes = torch.randint(0, 1 << bits, (outputs, inputs), dtype=torch.uint8)
    zeros = torch.full((outputs, groups), 1 << (bits - 1), dtype=torch.uint8)
    if not sym:
        zeros = torch.randint(0, 1 << bits, (outputs, groups), dtype=torch.uint8)
    return Groups(bits, codes, (torch.rand(outputs, groups) + 0.1).half(), zeros, group_order(inputs, size))


def read_as_others_do(tensors: dict[str, torch.Tensor], bits: int) -> np.ndarray:
    """The weights [N, K] of a version 1 checkpoint, by the description of the format."""
    qweight, qzeros = tensors["qweight"].numpy().view(np.uint32), tensors["qzeros"].numpy().view(np.uint32)
    scales, g_idx = tensors["scales"].numpy().astype(np.float32), tensors["g_idx"].numpy()
    per_word, mask = 32 // bits, (1 << bits) - 1
    inputs, outputs = qweight.shape[0] * per_word, qweight.shape[1]
    weights = np.empty((outputs, inputs), dtype=np.float32)
    for k in range(inputs):
        group = g_idx[k]
        for n in range(outputs):
            code = int(qweight[k // per_word, n]) >> (bits * (k % per_word)) & mask
            zero = (int(qzeros[group, n // per_word]) >> (bits * (n % per_word)) & mask) + 1 & mask
            weights[n, k] = scales[group, n] * np.float32(code - zero)
    return weights


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("sym", [True, False])
def test_the_format_is_that_of_the_specification(bits: int, sym: bool) -> None:
    weight = random_groups(bits, sym=sym)
    tensors = to_gptq(weight)
    planned = shapes(16, 256, 2, bits)
    assert {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in tensors.items()} == planned
    np.testing.assert_array_equal(read_as_others_do(tensors, bits), weight.dequantize().numpy())
    again = from_gptq(tensors, bits)
    assert torch.equal(again.codes, weight.codes) and torch.equal(again.zeros, weight.zeros)
    assert torch.equal(again.scales, weight.scales) and torch.equal(again.group_of, weight.group_of)


def test_a_symmetric_zero_is_stored_minus_one() -> None:
    tensors = to_gptq(random_groups(4))
    assert (tensors["qzeros"].view(torch.uint8) == 0x77).all()
    later = from_gptq(tensors | {"qzeros": torch.full((2, 2), -0x77777778, dtype=torch.int32)}, 4, zero_offset=0)
    assert (later.zeros == 8).all()


def test_groups_that_are_not_in_order() -> None:
    weight = random_groups(4)
    turned = Groups(4, weight.codes, weight.scales, weight.zeros, weight.group_of[torch.randperm(256)])
    assert weight.group_size == 128 and turned.group_size == 0
    np.testing.assert_array_equal(read_as_others_do(to_gptq(turned), 4), turned.dequantize().numpy())


@pytest.mark.parametrize(
    ("bits", "size", "inputs", "format"),
    [(4, 128, 256, "q4_0"), (4, 64, 160, "q4_0"), (8, 128, 256, "int8"), (8, 64, 128, "q8_0"), (4, 96, 96, "q4_0")],
)
def test_the_kernels_have_a_format_for_it(bits: int, size: int, inputs: int, format: str) -> None:
    weight = random_groups(bits, inputs=inputs, size=size)
    found = weight.quantized()
    assert found is not None and found.format == format
    assert torch.equal(found.dequantize(), weight.dequantize())


def test_formats_without_a_kernel() -> None:
    weight = random_groups(4)
    assert random_groups(4, sym=False).quantized() is None
    assert Groups(4, weight.codes, weight.scales, weight.zeros, weight.group_of.flip(0)).quantized() is None
