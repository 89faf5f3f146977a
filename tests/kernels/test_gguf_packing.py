"""GGUF blocks keep their values to the last bit on the way into the packed layout."""

import numpy as np
import pytest
import torch

from qianwen.checkpoints.gguf.file import GgufTensor
from qianwen.kernels.gguf_blocks import FORMATS
from qianwen.kernels.gguf_packing import READERS, transcode
from qianwen.kernels.packing import pack, unpack

HALVES = {
    "Q4_K": (0, 2),
    "Q5_K": (0, 2),
    "Q6_K": (208,),
    "Q3_K": (108,),
}  # where the float16 scales are; else at the start


def random_tensor(type: str, rows: int = 5, inputs: int = 768) -> GgufTensor:
    form, rng = FORMATS[type], np.random.default_rng(0)
    raw = rng.integers(0, 256, (rows, inputs // form.weights, form.bytes), dtype=np.uint8)
    for start in HALVES.get(type, (0,)):
        scales = rng.normal(0, 0.01, raw.shape[:2]).astype(np.float16)
        raw[..., start : start + 2] = scales[..., None].view(np.uint8)
    return GgufTensor("weight", type, (rows, inputs), raw.reshape(rows, -1))


@pytest.mark.parametrize("type", sorted({*READERS} - {"IQ4_XS"}))
def test_values_are_the_files_own(type: str) -> None:
    tensor = random_tensor(type)
    weight = transcode(tensor.type, tensor.raw)
    assert weight is not None
    assert torch.equal(weight.dequantize(), tensor.dequantize())
    assert torch.equal(unpack(pack(weight), weight.format, 5, 768).dequantize(), tensor.dequantize())


def test_the_scales_of_iq4_xs_are_rounded_to_float16() -> None:
    tensor = random_tensor("IQ4_XS")
    weight = transcode(tensor.type, tensor.raw)
    assert weight is not None
    torch.testing.assert_close(weight.dequantize(), tensor.dequantize(), rtol=2**-11, atol=0)


def test_other_formats_are_left_to_the_caller() -> None:
    raw = np.zeros((2, 64), np.float16).view(np.uint8)
    assert transcode("F16", raw) is None
