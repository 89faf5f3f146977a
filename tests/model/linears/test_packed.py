"""`PackedLinear`: exact sums of bytes for any size and number of rows, and packed models."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import family, may_use_amx
from qianwen.kernels.cpu.row_limits import WAYS, Limits
from qianwen.kernels.packing import FORMATS, Quantized
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import PackedLinear, make_invariant, pack_model
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import ConfigError

needs_kernels = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
RandomWeight = Callable[[str, int, int], Quantized]
INTEGERS = [name for name in FORMATS if name != "bf16"]
SIZES = [(64, 128), (70, 200), (130, 896), (192, 384)]
ROWS = [1, 2, 3, 5, 6, 7, 8, 9, 16, 33, 50]
CONFIG = QwenConfig(
    vocab_size=96,
    hidden_size=64,
    intermediate_size=160,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    initializer_range=0.2,
    tie_word_embeddings=True,
)


def as_bytes(x: Tensor, size: int = 128) -> Tensor:
    """Activations as in the kernels: `size` values of a row share a scale."""
    spans = F.pad(x, (0, -x.size(1) % size)).unflatten(1, (-1, size))
    peak = spans.abs().amax(-1, keepdim=True)
    codes = (spans * (127 / peak)).round()
    return (codes.double() * (peak / 127)).flatten(1)[:, : x.size(1)]


@needs_kernels
@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("size", SIZES)
def test_few_rows_are_exact_and_many_rows_are_close(
    random_weight: RandomWeight, format: str, size: tuple[int, int]
) -> None:
    weight, bias = random_weight(format, *size), torch.randn(size[0])
    linear = PackedLinear.from_quantized(weight, bias)
    few, some, many = WAYS
    for rows in ROWS:
        x = torch.randn(rows, size[1])
        exact = x.double() @ weight.dequantize().double().T + bias
        expected = as_bytes(x) @ weight.dequantize().double().T + bias
        for limits, most in ((few, 1e-6), (some, 1e-6 if format == "int8" else 0.012)):
            linear.limits = limits
            assert (linear(x) - expected).norm() <= most * expected.norm()
        linear.limits = many  # on AMX bytes that share a scale for 256 inputs, elsewhere for 128
        assert (linear(x) - exact).norm() <= 0.02 * exact.norm()


@needs_kernels
@pytest.mark.parametrize("format", INTEGERS)
def test_many_rows_of_many_inputs(random_weight: RandomWeight, format: str) -> None:
    """More inputs than a chunk, more rows than a block, partial tiles at the end; one row is much larger."""
    if not may_use_amx():
        pytest.skip("this processor has no AMX")
    weight = random_weight(format, 70, 4_864)
    linear, x = PackedLinear.from_quantized(weight), torch.randn(261, 4_864)
    x[5] *= 1000
    x[:, 7] *= 20
    linear.limits = WAYS[2]
    expected = as_bytes(x, 256) @ weight.dequantize().double().T
    assert ((linear(x) - expected).norm(dim=1) <= 0.015 * expected.norm(dim=1)).all()


@needs_kernels
def test_amx_gives_the_same_bits_as_vector_kernels() -> None:
    linear, x = PackedLinear.from_float(torch.randn(130, 896), torch.randn(130), format="int8"), torch.randn(50, 896)
    few, some, _ = WAYS
    linear.limits = few
    expected = linear(x)
    linear.limits = some
    assert torch.equal(linear(x), expected)


@needs_kernels
@pytest.mark.parametrize("size", [*SIZES, (5, 7)])
def test_dense_weights(size: tuple[int, int]) -> None:
    weight, bias = torch.randn(size), torch.randn(size[0])
    linear = PackedLinear.from_float(weight, bias, format="bf16")
    for rows in ROWS:
        x = torch.randn(rows, size[1])
        expected = F.linear(x, weight.bfloat16().float(), bias)
        linear.limits = WAYS[0]
        torch.testing.assert_close(linear(x), expected, rtol=1e-4, atol=1e-4)
        linear.limits = WAYS[2]
        assert (linear(x) - expected).norm() <= 0.004 * expected.norm()


@needs_kernels
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("limits", WAYS)
def test_a_row_does_not_depend_on_other_rows(random_weight: RandomWeight, format: str, limits: Limits) -> None:
    """R24: the same bits alone, anywhere in a batch, and on any number of threads."""
    inputs = 1792  # more than a chunk
    if format == "bf16":
        linear = PackedLinear.from_float(torch.randn(130, inputs), format=format)
    else:
        linear = PackedLinear.from_quantized(random_weight(format, 130, inputs))
    linear.limits, linear.splits_outliers = limits, True
    x = torch.randn(33, inputs)
    x[3] *= 1000
    x[7, 5] = x[8, 1700] = 1000
    together = linear(x)
    assert all(torch.equal(linear(x[i : i + 1])[0], together[i]) for i in range(33))
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert torch.equal(linear(x.flip(0)).flip(0), together)
    torch.set_num_threads(threads)


@needs_kernels
@pytest.mark.parametrize("format", INTEGERS)
@pytest.mark.parametrize("limits", WAYS)
def test_rows_with_an_outlier_keep_their_small_values(random_weight: RandomWeight, format: str, limits: Limits) -> None:
    linear, x = PackedLinear.from_quantized(random_weight(format, 70, 896), torch.randn(70)), torch.randn(600, 896)
    rows, others = [0, 6, 511, 599], [1, 5, 512, 598]
    linear.limits = limits
    x[rows, 130] = 500
    ones = linear(torch.eye(896)).double() - linear.bias  # the weights as they are multiplied this way
    exact = x[rows].double() @ ones + linear.bias
    plain = linear(x)
    linear.splits_outliers = True
    split = linear(x)
    assert torch.equal(split[others], plain[others])
    errors = [(got[rows] - exact).norm(dim=1) for got in (plain, split)]
    assert (errors[1] < 0.02 * errors[0]).all()


@needs_kernels
def test_more_rows_than_a_block_of_tiles() -> None:
    linear, x = PackedLinear.from_float(torch.randn(70, 96), format="bf16"), torch.randn(1040, 96)
    linear.limits = WAYS[2]
    together = linear(x)
    assert torch.equal(together[1030:], linear(x[1030:]))
    assert (together - x @ linear.dequantize().T).norm() < 0.004 * together.norm()


def test_without_kernels_the_result_is_that_of_the_unpacked_weights(
    random_weight: RandomWeight, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operators, "available", lambda: False)
    weight, bias = random_weight("q5_0", 70, 200), torch.randn(70)
    x = torch.randn(2, 3, 200, dtype=torch.bfloat16)
    expected = F.linear(x, weight.dequantize().bfloat16(), bias.bfloat16())
    assert torch.equal(PackedLinear.from_quantized(weight, bias)(x), expected)


@needs_kernels
def test_zeros_and_other_float_types(random_weight: RandomWeight) -> None:
    linear = PackedLinear.from_quantized(random_weight("int4", 70, 200))
    assert linear(torch.zeros(2, 200)).count_nonzero() == 0
    x = torch.randn(2, 5, 200)
    assert torch.equal(linear(x.bfloat16()), linear(x.bfloat16().float()).bfloat16())


def test_copies_and_pickles(random_weight: RandomWeight) -> None:
    linear = PackedLinear.from_quantized(random_weight("int4", 70, 200), torch.randn(70))
    x = torch.randn(2, 200)
    expected = linear(x)
    twin = copy.deepcopy(linear)
    linear.packed.zero_()
    assert torch.equal(twin(x), expected)


def test_a_quantised_model_keeps_its_answers() -> None:
    model = Qwen(CONFIG).init_weights(0).eval()
    ids = torch.randint(0, 96, (2, 20))
    expected = model.logits(model(ids)).detach()
    distances = {}
    for bits in (16, 8, 4):
        small = pack_model(copy.deepcopy(model), bits, head_bits=max(bits, 8))
        assert not any(isinstance(module, nn.Linear) for module in small.modules())
        distances[bits] = float((small.logits(small(ids)).detach() - expected).norm() / expected.norm())
    # Four bits lose 8 % of a random linear, and this random network amplifies what its linears lose about five times.
    assert distances[16] < 0.02 and distances[8] < 0.08 and distances[4] < 0.5
    assert sum(x.packed_bytes for x in small.modules() if isinstance(x, PackedLinear)) > 0
    splitting = {name.split(".")[-1] for name, x in small.named_modules() if getattr(x, "splits_outliers", False)}
    assert splitting == {"gate_proj", "up_proj"}


@needs_kernels
def test_invariant_model_gives_a_text_the_same_bits_alone_and_in_a_batch() -> None:
    model = make_invariant(pack_model(Qwen(CONFIG).init_weights(0)))
    assert all(x.limits == operators.ONE_WAY for x in model.modules() if isinstance(x, PackedLinear))
    hidden = torch.randn(40, 64)
    assert torch.equal(model.logits(hidden)[7:8], model.logits(hidden[7:8]))


def test_unknown_bits_name_the_choices() -> None:
    model = Qwen(CONFIG)
    with pytest.raises(ConfigError, match="3 bits is not supported; choose one of 4, 5, 8, 16"):
        pack_model(model, 3)
    with pytest.raises(ConfigError, match="q5_0 cannot be made from floats"):
        PackedLinear.from_float(torch.zeros(2, 2), format="q5_0")
