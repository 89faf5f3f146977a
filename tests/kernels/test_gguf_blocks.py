"""Block formats: known bytes by hand, errors of a round trip, and (parity) the reference to the last bit."""

import numpy as np
import pytest

from qianwen.kernels.gguf_blocks import ENCODERS, FORMATS, dequantize, quantize


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


@pytest.mark.parametrize("type", ENCODERS)
def test_encoding_equals_the_reference_to_the_last_bit(type: str) -> None:
    reference = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle")
    from gguf import GGMLQuantizationType

    weights = np.random.default_rng(1).standard_normal((64, 256)).astype(np.float32)
    weights[0], weights[1, :32], weights[2, 5] = 0, -1, 1e-30
    theirs = reference.quantize(weights, GGMLQuantizationType(FORMATS[type].code)).view(np.uint8)
    assert (quantize(weights, type) == theirs).all()


@pytest.mark.parametrize(("type", "steps"), [("F32", np.inf), ("F16", 1024), ("BF16", 128), ("Q8_0", 127), ("Q4_0", 8)])
def test_a_round_trip_is_off_by_half_a_step_at_most(type: str, steps: float) -> None:
    weights = np.random.default_rng(2).uniform(-1, 1, (8, 320)).astype(np.float32)
    back = decoded(quantize(weights, type), type).reshape(weights.shape)
    # Q4_0 reaches only 7/8 of its range on one side, so there the end may be off by a whole step.
    assert np.abs(back - weights).max() <= (1.001 if type == "Q4_0" else 0.51) / steps + 1e-3 * (type[0] == "Q")


def test_bfloat16_rounds_to_even_and_keeps_nan() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800001, 0xFFC00000], np.uint32)
    back = decoded(quantize(bits.view(np.float32).reshape(1, -1), "BF16"), "BF16")
    assert back[:3].view(np.uint32).tolist() == [0x3F800000, 0x3F820000, 0x7F800000]
    assert np.isnan(back[3:]).all()


def test_zeros_stay_zeros() -> None:
    for type in ENCODERS:
        assert not decoded(quantize(np.zeros((2, 64), np.float32), type), type).any()
