"""The kernels for Arm, cross-compiled and run under an emulator, against PyTorch and bit for bit against the integers.

Needs `aarch64-linux-gnu-g++` and `qemu-aarch64`, which Debian has as `g++-aarch64-linux-gnu` and `qemu-user`.
"""

import platform
import shutil
import struct
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels import rounding
from qianwen.kernels.cpu import operators
from qianwen.kernels.cpu.build import FAMILIES, FLAGS, Family
from qianwen.kernels.cpu.row_limits import WAYS
from qianwen.kernels.packing import FORMATS, pack, pack_dense

from ..conftest import make as random_weight

ARM = [family for family in FAMILIES if family.is_arm]
IS_ARM = platform.machine().lower() in ("aarch64", "arm64")
COMPILER = shutil.which("g++" if IS_ARM else "aarch64-linux-gnu-g++")
EMULATOR = [] if IS_ARM else [shutil.which("qemu-aarch64") or "", "-cpu", "max"]

pytestmark = [
    pytest.mark.nightly,
    pytest.mark.skipif(not (COMPILER and all(EMULATOR)), reason="needs aarch64-linux-gnu-g++ and qemu-aarch64"),
]

Case = tuple[list[int], list[Tensor | None]]


@pytest.fixture(scope="module", params=ARM, ids=[family.name for family in ARM])
def kernels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Kernels":
    return Kernels(request.param, tmp_path_factory.mktemp("arm"))


class Kernels:
    """The kernels of a family, as a program."""

    def __init__(self, family: Family, folder: Path) -> None:
        self.folder, self.program = folder, folder / "run_kernels"
        sources = [Path(__file__).with_name("run_kernels.cpp"), Path(operators.__file__).with_name("few_rows.cpp")]
        command = [str(COMPILER), "-std=c++17", "-O2", "-static", "-fopenmp", *FLAGS, *family.flags, *map(str, sources)]
        subprocess.run([*command, "-o", str(self.program)], check=True)

    def __call__(self, numbers: list[int], *buffers: Tensor | None) -> list[bytes]:
        """What the kernel `numbers[0]` writes."""
        data = struct.pack(f"<{len(numbers) + 1}q", len(numbers), *numbers) + struct.pack("<q", len(buffers))
        for buffer in buffers:
            raw = b"" if buffer is None else buffer.contiguous().flatten().view(torch.uint8).numpy().tobytes()
            data += struct.pack("<q", len(raw)) + raw
        (self.folder / "in").write_bytes(data)
        subprocess.run([*EMULATOR, self.program, self.folder / "in", self.folder / "out"], check=True, timeout=300)
        return list(_buffers((self.folder / "out").read_bytes()))


def _buffers(data: bytes) -> Iterator[bytes]:
    while data:
        (size,) = struct.unpack_from("<q", data)
        yield data[8 : 8 + size]
        data = data[8 + size :]


def tensor(raw: bytes, shape: Sequence[int], dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.frombuffer(bytearray(raw), dtype=dtype).view(*shape)


@pytest.mark.parametrize("format", FORMATS)
def test_linears_in_every_format_and_way(kernels: Kernels, format: str) -> None:
    outputs, inputs = 70, 300
    weight = torch.randn(outputs, inputs) if format == "bf16" else random_weight(format, outputs, inputs)
    dense = weight.bfloat16().float() if isinstance(weight, Tensor) else weight.dequantize()
    packed = pack_dense(weight) if isinstance(weight, Tensor) else pack(weight)
    bias = torch.randn(outputs)
    for rows in (1, 5, 20):
        x = torch.randn(rows, inputs)
        expected = F.linear(x, dense, bias)
        for limits in WAYS:
            numbers = [0, inputs, outputs, FORMATS[format].index, *limits, rows]
            (raw,) = kernels(numbers, packed, bias, x)
            found = tensor(raw, (rows, outputs))
            assert (found - expected).norm() < 0.02 * expected.norm(), (rows, limits)


def test_norms_gates_and_rotation(kernels: Kernels) -> None:
    for size in (7, 64, 130):
        x, weight, residual = torch.randn(3, size), torch.rand(size), torch.randn(3, size)
        out, total = kernels([1, 3, size], x, weight, residual)
        torch.testing.assert_close(tensor(total, (3, size)), residual + x)
        torch.testing.assert_close(tensor(out, (3, size)), F.rms_norm(residual + x, (size,), weight, 1e-6))
        both = torch.randn(2, 2 * size) * 30
        (out,) = kernels([2, 2, size], both)
        expected = F.silu(both[:, :size]) * both[:, size:]
        torch.testing.assert_close(tensor(out, (2, size)), expected, rtol=1e-5, atol=1e-6)
    q, k, (cos, sin) = torch.randn(5, 3, 20), torch.randn(5, 1, 20), torch.randn(2, 5, 10)
    for raw, heads in zip(kernels([3, 5, 3, 1, 20], q, k, cos, sin), (q, k), strict=True):
        (a, b), c, s = heads.chunk(2, -1), cos[:, None], sin[:, None]
        torch.testing.assert_close(tensor(raw, heads.shape), torch.cat((a * c - b * s, b * c + a * s), -1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(14, 2, 64), (4, 4, 20), (2, 1, 256)])
def test_attention_over_pages(kernels: Kernels, dtype: torch.dtype, heads: int, kv_heads: int, dim: int) -> None:
    length, page, queries = 100, 16, 9
    tables = torch.randperm(7).view(1, 7).int()
    k, v = torch.randn(2, 7, page, kv_heads, dim).to(dtype)
    q = torch.randn(queries, heads, dim)
    keys, values = (x[tables[0].long()].flatten(0, 1)[:length].float() for x in (k, v))
    for window in (0, 5, 70):
        numbers = [4, int(dtype == torch.bfloat16), page, kv_heads, dim, 7, 1, heads, window, queries]
        (raw,) = kernels(numbers, k, v, tables, torch.tensor([length]).int(), torch.tensor([queries]).int(), q)
        seen = torch.ones(queries, length, dtype=torch.bool).tril(length - queries)
        seen = seen.triu(length - queries + 1 - window) if window else seen
        expected = F.scaled_dot_product_attention(
            q.transpose(0, 1), keys.transpose(0, 1), values.transpose(0, 1), seen, enable_gqa=True
        )
        torch.testing.assert_close(tensor(raw, q.shape), expected.transpose(0, 1), rtol=1e-5, atol=1e-5)


def test_documents_and_their_gradients(kernels: Kernels) -> None:
    heads, kv_heads, dim, tokens = 4, 2, 32, 128
    q, k, v = (torch.randn(tokens, n, dim).bfloat16() for n in (heads, kv_heads, kv_heads))
    d_out = torch.randn(tokens, heads, dim).bfloat16()
    first = torch.tensor([0] * 50 + [50] * 78).int()
    found = kernels([5, heads, kv_heads, dim, tokens], q, k, v, first, d_out)
    leaves = [x.double().requires_grad_() for x in (q, k, v)]
    seen = (torch.arange(tokens) >= first[:, None]).tril()
    out = F.scaled_dot_product_attention(*(x.transpose(0, 1) for x in leaves), seen, enable_gqa=True).transpose(0, 1)
    out.backward(d_out.double())
    for raw, expected in zip(found, (out, *(leaf.grad for leaf in leaves)), strict=True):
        assert expected is not None
        ours = tensor(raw, expected.shape, torch.bfloat16).double()
        assert (ours - expected).norm() < 0.02 * expected.norm()


def test_loss_and_its_gradient(kernels: Kernels) -> None:
    scores, targets = torch.randn(5, 77).bfloat16() * 3, torch.tensor([3, 76, -100, 0, 40])
    losses, gradient = kernels([6, 5, 77], scores, targets)
    logprobs = scores.float().log_softmax(-1)
    expected = torch.where(targets < 0, 0, -logprobs.gather(1, targets.clamp(0)[:, None])[:, 0])
    torch.testing.assert_close(tensor(losses, (5,)), expected, rtol=1e-4, atol=1e-4)
    wanted = (logprobs.exp() - F.one_hot(targets.clamp(0), 77)) * (targets >= 0)[:, None]
    torch.testing.assert_close(tensor(gradient, (5, 77), torch.bfloat16), wanted.bfloat16(), rtol=2e-2, atol=1e-3)


def test_grids_are_those_of_the_search_in_pytorch(kernels: Kernels) -> None:
    weight, importance = torch.randn(9, 64), torch.rand(64)
    expected = rounding.fit(weight, importance, 15, 8)
    for raw, wanted in zip(kernels([7, 9, 64, 15, 8], weight, importance), expected, strict=True):
        torch.testing.assert_close(tensor(raw, (9, 2)), wanted, rtol=1e-4, atol=1e-5)
