"""Weights to GGUF blocks: the reference's bytes where nothing is searched, and less error than it elsewhere."""

import numpy as np
import pytest
import torch
from torch import Tensor

from qianwen.kernels import gguf_encoding, rounding
from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family
from qianwen.kernels.gguf_blocks import FORMATS, dequantize
from qianwen.kernels.gguf_encoding import ENCODERS, quantize, rounded

EXACT = ("F32", "F16", "BF16", "Q8_0")
SEARCHED = tuple(type for type in ENCODERS if type not in EXACT)
# The error of weights from a normal distribution, relative to them: what a uniform grid of so many codes leaves.
MOST = {"Q4_0": 0.083, "Q4_K": 0.072, "Q5_0": 0.042, "Q5_1": 0.036, "Q5_K": 0.036, "Q6_K": 0.019}


def restored(weight: Tensor, type: str, importance: Tensor | None = None) -> Tensor:
    raw = quantize(weight, type, importance)
    assert raw.shape == (len(weight), weight.size(1) // FORMATS[type].weights * FORMATS[type].bytes)
    back = torch.from_numpy(np.concatenate(list(dequantize(raw, type)))).view_as(weight)
    assert torch.equal(back.nan_to_num(), rounded(weight, type, importance).nan_to_num())
    return back


def error(weight: Tensor, like: Tensor) -> float:
    return float((weight - like).norm() / like.norm())


def normal(rows: int = 64, inputs: int = 512) -> Tensor:
    return torch.randn(rows, inputs, generator=torch.Generator().manual_seed(1)) * 0.02


@pytest.mark.parametrize("type", EXACT)
def test_what_is_not_searched_equals_the_reference_to_the_last_bit(type: str) -> None:
    reference = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle")
    from gguf import GGMLQuantizationType

    weight = normal()
    weight[0], weight[1, :32], weight[2, 5] = 0, -1, 1e-30
    theirs = reference.quantize(weight.numpy(), GGMLQuantizationType(FORMATS[type].code)).view(np.uint8)
    assert (quantize(weight, type) == theirs).all()


@pytest.mark.parametrize("type", SEARCHED)
def test_the_error_is_that_of_a_good_grid(type: str) -> None:
    assert error(restored(normal(), type), normal()) < MOST[type]


@pytest.mark.parametrize(("type", "share"), [("Q4_0", 0.95), ("Q5_0", 0.97), ("Q5_1", 0.97)])
def test_search_beats_the_reference(type: str, share: float) -> None:
    """gguf-py rounds these types without a search."""
    reference = pytest.importorskip("gguf.quants", reason="the gguf package is the peer")
    from gguf import GGMLQuantizationType

    code = GGMLQuantizationType(FORMATS[type].code)
    theirs = torch.from_numpy(reference.dequantize(reference.quantize(normal().numpy(), code), code))
    assert error(restored(normal(), type), normal()) < share * error(theirs, normal())


@pytest.mark.parametrize("type", SEARCHED)
def test_the_reference_reads_our_blocks(type: str) -> None:
    reference = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle")
    from gguf import GGMLQuantizationType

    theirs = reference.dequantize(quantize(normal(), type), GGMLQuantizationType(FORMATS[type].code))
    assert torch.equal(torch.from_numpy(theirs), restored(normal(), type))


@pytest.mark.parametrize("type", SEARCHED)
def test_weights_on_the_grid_stay_there(type: str) -> None:
    """A second rounding of the same weights, as for a file that is read and written again, changes little."""
    once = restored(normal(), type)
    assert error(restored(once, type), once) < 0.35 * error(once, normal())


@pytest.mark.parametrize("type", SEARCHED)
def test_important_inputs_lose_less(type: str) -> None:
    weight, importance = normal(), torch.ones(512)
    importance[::4] = 50
    even, uneven = restored(weight, type), restored(weight, type, importance)
    assert error(uneven[:, ::4], weight[:, ::4]) < 0.93 * error(even[:, ::4], weight[:, ::4])


@pytest.mark.parametrize("type", SEARCHED)
@pytest.mark.parametrize("scale", [0.0, 1e-20, 1e20])
def test_only_the_ratio_of_importances_counts(type: str, scale: float) -> None:
    importance = torch.full((512,), scale)
    expected = error(restored(normal(), type), normal())
    assert error(restored(normal(), type, importance), normal()) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize("type", SEARCHED)
def test_inputs_that_were_never_active_keep_their_weights(type: str) -> None:
    importance = torch.ones(512)
    importance[:256] = 0
    assert error(restored(normal(), type, importance)[:, :256], normal()[:, :256]) < MOST[type]


@pytest.mark.parametrize("type", ENCODERS)
def test_degenerate_rows_survive(type: str) -> None:
    weight = normal(8)
    weight[0], weight[1], weight[2], weight[3] = 0, 1, -1, weight[3] * 1e-4
    weight[4, 7], weight[5] = 60, weight[5].abs()
    back = restored(weight, type)
    assert back.isfinite().all() and back[0].count_nonzero() == 0
    assert (back - weight)[1:3].abs().max() < 0.02 and abs(back[4, 7] - 60) < 0.5
    assert (back - weight)[3].abs().max() < 1e-5  # where float16 has no scales as small as these
    assert error(back[5], weight[5]) < 0.12


@pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
@pytest.mark.parametrize("type", ["Q4_K", "Q5_K", "Q5_1"])
def test_without_compiled_kernels_it_is_as_good(type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fast = error(restored(normal(), type), normal())
    monkeypatch.setattr(operators, "available", lambda: False)
    assert gguf_encoding._fitted(normal(2), torch.ones(512), 4)[0].equal(
        rounding.fit(normal(2), torch.ones(512), 15, gguf_encoding.RANGES)[0]
    )
    assert error(restored(normal(), type), normal()) == pytest.approx(fast, rel=1e-3)


def test_bfloat16_rounds_to_even_and_keeps_nan() -> None:
    bits = torch.tensor([[0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F800001]], dtype=torch.int32)
    back = restored(bits.view(torch.float32), "BF16")[0]
    assert back[:3].view(torch.int32).tolist() == [0x3F800000, 0x3F820000, 0x7F800000] and back[3].isnan()
