"""Block formats: known bytes by hand, and the reference to the last bit."""

import numpy as np
import pytest

from qianwen.kernels.gguf_blocks import FORMATS, dequantize


def decoded(raw: np.ndarray, type: str) -> np.ndarray:
    return np.concatenate(list(dequantize(raw, type)))


def half(value: float) -> bytes:
    return np.float16(value).tobytes()


def test_blocks_by_hand() -> None:
    """Byte j of a 32-block holds weights j and j + 16; d scales, m shifts."""
    q4_0 = np.frombuffer(half(0.5) + bytes(range(16)), np.uint8).reshape(1, -1)
    expected = [0.5 * ((j % 16) - 8) for j in range(16)] + [0.5 * -8] * 16
    assert decoded(q4_0, "Q4_0").tolist() == expected
    q4_1 = np.frombuffer(half(2) + half(-3) + bytes([0xF1] * 16), np.uint8).reshape(1, -1)
    assert decoded(q4_1, "Q4_1").tolist() == [-1.0] * 16 + [27.0] * 16
    q5_0 = np.frombuffer(half(1) + (1 << 3 | 1 << 20).to_bytes(4, "little") + bytes(16), np.uint8).reshape(1, -1)
    assert [j for j, weight in enumerate(decoded(q5_0, "Q5_0")) if weight == 0] == [3, 20]
    q8_0 = np.frombuffer(half(0.25) + bytes([0x80, 0x7F] * 16), np.uint8).reshape(1, -1)
    assert decoded(q8_0, "Q8_0").tolist() == [-32.0, 31.75] * 16


@pytest.mark.parametrize("type", FORMATS)
def test_decoding_equals_the_reference_to_the_last_bit(type: str) -> None:
    reference = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle")
    from gguf import GGMLQuantizationType

    form = FORMATS[type]
    raw = np.random.default_rng(form.code).integers(0, 256, (900, form.bytes * max(512 // form.weights, 1)), np.uint8)
    with np.errstate(all="ignore"):  # random bytes hold every float16, infinities and NaN included
        ours = decoded(raw, type)
        theirs = reference.dequantize(raw, GGMLQuantizationType(form.code)).reshape(-1)
    same = (ours.view(np.uint32) == theirs.view(np.uint32)) | (np.isnan(ours) & np.isnan(theirs))
    assert GGMLQuantizationType(form.code).name == type and same.all()
