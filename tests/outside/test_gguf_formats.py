"""Number formats of other tools' GGUF files: all decode to the values of `gguf`, and pack without another rounding."""

from pathlib import Path

import numpy as np
import pytest
import torch

from qianwen.checkpoints.gguf.file import GgufFile, GgufTensor
from qianwen.checkpoints.gguf.network import GgufModel
from qianwen.checkpoints.packed_cache import gguf_bits, pack_gguf
from qianwen.kernels.gguf_blocks import FORMATS, LIBRARY_FORMATS, dequantize
from qianwen.kernels.gguf_packing import transcode
from qianwen.kernels.packing import pack, unpack
from qianwen.model.linears.packed import PackedLinear

gguf = pytest.importorskip("gguf", reason="the gguf package is the oracle")
ALL = {name: form.code for name, form in FORMATS.items()}
PLACES = {"IQ4_NL": 0, "IQ4_XS": 0, "Q3_K": 108}  # of the float16 scale


def blocks(type: str, rows: int = 6, inputs: int = 512) -> np.ndarray:
    """Random codes and scales of the size that weights have, [rows, bytes of a row]."""
    form = FORMATS[type]
    rng = np.random.default_rng(form.code)
    raw = rng.integers(0, 256, (rows, inputs // form.weights, form.bytes), np.uint8)
    scales = rng.normal(0, 0.01, raw.shape[:2]).astype(np.float16)
    start = PLACES.get(type, 0)
    raw[..., start : start + 2] = scales[..., None].view(np.uint8)
    return raw.reshape(rows, -1)


@pytest.mark.parametrize("type", ALL)
def test_every_format_has_the_values_of_the_reference(type: str) -> None:
    raw = blocks(type)
    with np.errstate(all="ignore"):
        ours = np.concatenate(list(dequantize(raw, type)))
        theirs = gguf.quants.dequantize(raw, gguf.GGMLQuantizationType(FORMATS[type].code)).reshape(-1)
    same = (ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))
    assert same.all() and ours.dtype == np.float32


@pytest.mark.parametrize("type", ALL)
def test_number_and_geometry_are_those_of_the_reference(type: str) -> None:
    number = gguf.GGMLQuantizationType[type]
    assert (FORMATS[type].weights, FORMATS[type].bytes) == gguf.GGML_QUANT_SIZES[number] and FORMATS[
        type
    ].code == number


@pytest.mark.parametrize("type", ["IQ4_NL", "Q3_K"])
def test_packed_codes_have_the_same_values(type: str) -> None:
    raw = blocks(type)
    weight = transcode(type, raw)
    assert weight is not None
    expected = GgufTensor("w", type, (6, 512), raw).dequantize()
    assert torch.equal(weight.dequantize(), expected)
    assert torch.equal(unpack(pack(weight), weight.format, 6, 512).dequantize(), expected)


def test_packed_iq4_xs_rounds_only_the_scale_of_a_group() -> None:
    raw = blocks("IQ4_XS")
    weight = transcode("IQ4_XS", raw)
    assert weight is not None
    expected = GgufTensor("w", "IQ4_XS", (6, 512), raw).dequantize()
    error = (weight.dequantize() - expected).abs() / expected.abs().clamp(min=1e-9)
    assert 0 < error.max() <= 1 / 2048


def test_formats_without_a_packed_layout_are_left_to_the_caller() -> None:
    for type in (*LIBRARY_FORMATS, "MXFP4", "Q2_K", "Q4_1", "Q5_1"):
        assert transcode(type, blocks(type)) is None


@pytest.mark.parametrize("type", ["IQ4_NL", "IQ4_XS"])
def test_a_whole_file_loads_and_packs(shared: Path, type: str) -> None:
    path = shared / "data" / "outside" / "gguf" / f"{type}.gguf"
    reader = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for name, tensor in GgufFile(path).tensors.items():
        expected = gguf.quants.dequantize(reader[name].data, reader[name].tensor_type)
        assert np.array_equal(tensor.dequantize().numpy(), expected)
    model = GgufModel(path)
    ids = torch.arange(12)[None]
    floats, packed = model.load(), pack_gguf(model, gguf_bits(model))
    expected, found = floats.logits(floats(ids)), packed.logits(packed(ids))
    assert gguf_bits(model) == 4
    assert (found - expected).norm() / expected.norm() < 0.05  # kernels round activations to bytes
    for name, linear in packed.named_modules():
        if isinstance(linear, PackedLinear) and name != "lm_head":
            weight = floats.get_parameter(f"{name}.weight")
            torch.testing.assert_close(linear.dequantize(), weight, rtol=0 if type == "IQ4_NL" else 2**-11, atol=0)
