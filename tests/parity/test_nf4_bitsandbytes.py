"""NF4 against bitsandbytes on the CPU: the same codes, scales that agree, the same weights from the same bits."""

import pytest
import torch

from qianwen.model.linears.nf4 import CODE, Nf4Linear, scale_map

theirs = pytest.importorskip("bitsandbytes.functional", reason="bitsandbytes is the oracle")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.mark.parametrize("shape", [(256, 128), (64, 1536)])
def test_codes_scales_and_weights_are_equal(shape: tuple[int, int]) -> None:
    weight = torch.randn(shape) * torch.rand(shape[0], 1)
    packed, state = theirs.quantize_4bit(weight, blocksize=64, compress_statistics=True, quant_type="nf4")
    ours = Nf4Linear.from_float(weight)
    assert torch.equal(torch.tensor(CODE), state.code)
    torch.testing.assert_close(scale_map(weight.device), state.state2.code, atol=0, rtol=1e-6)
    assert torch.equal(ours.codes, packed.flatten())
    torch.testing.assert_close(ours.mean, state.offset)
    torch.testing.assert_close(ours.tops, state.state2.absmax.flatten())
    apart = (ours.scales.int() - state.absmax.int()).abs()
    assert apart.max() <= 1 and (apart > 0).float().mean() < 0.02  # it does not always take the nearest
    read = Nf4Linear(packed.flatten(), state.absmax, state.state2.absmax.flatten(), state.offset, shape)
    torch.testing.assert_close(read.dequantize(), theirs.dequantize_4bit(packed, state), atol=1e-6, rtol=1e-5)
    better, worse = (torch.dist(weights, weight) for weights in (ours.dequantize(), read.dequantize()))
    assert better < 1.001 * worse
