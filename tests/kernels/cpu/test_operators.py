"""The small kernels and attention over pages, against PyTorch."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu import operators, row_limits
from qianwen.kernels.cpu.build import FAMILIES, Family, available_families, family, has_bfloat16_products
from qianwen.runtime.compiler import SWITCH

needs_kernels = pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")


X86, ARM = ("x86_64", "amd64"), ("aarch64", "arm64")


@pytest.mark.parametrize("each", FAMILIES, ids=[each.name for each in FAMILIES])
def test_compile_every_family(each: Family) -> None:
    """Of this machine's architecture with its own compiler; of the other with a cross compiler, where there is one."""
    is_arm = each.is_arm
    is_native = platform.machine().lower() in (ARM if is_arm else X86)
    compiler = shutil.which("g++") if is_native else shutil.which(f"{'aarch64' if is_arm else 'x86_64'}-linux-gnu-g++")
    if compiler is None:
        assert not is_native or not shutil.which("clang++"), "the project compiles with g++ in its tests"
        pytest.skip(f"no compiler for {each.name}")
    for source in ("kernels.cpp", "few_rows.cpp"):
        command = [compiler, "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", *each.flags]
        compiled = subprocess.run(
            [*command, str(Path(operators.__file__).with_name(source))], capture_output=True, text=True
        )
        assert not compiled.returncode, compiled.stderr


@needs_kernels
@pytest.mark.parametrize("shape", [(1, 7), (3, 64), (5, 130)])
def test_rms_norm_with_and_without_residual(shape: tuple[int, int]) -> None:
    x, weight, residual = torch.randn(shape), torch.rand(shape[1]), torch.randn(shape)
    torch.testing.assert_close(operators.rms_norm(x, weight, 1e-6), F.rms_norm(x, shape[1:], weight, 1e-6))
    total = residual + x
    torch.testing.assert_close(
        operators.rms_norm(x, weight, 1e-6, residual), F.rms_norm(total, shape[1:], weight, 1e-6)
    )
    assert torch.equal(residual, total)


@needs_kernels
@pytest.mark.parametrize("size", [1, 16, 100, 4864])
def test_silu_mul_over_the_whole_range(size: int) -> None:
    gate_up = torch.cat((torch.linspace(-120, 120, 2 * size), torch.randn(2 * size))).view(2, -1)[:, : 2 * size]
    gate_up = gate_up.contiguous()
    expected = F.silu(gate_up[:, :size]) * gate_up[:, size:]
    torch.testing.assert_close(operators.silu_mul(gate_up), expected, rtol=1e-5, atol=1e-6)


@needs_kernels
@pytest.mark.parametrize("dim", [20, 64, 128])
def test_rope_turns_heads_that_lie_among_others(dim: int) -> None:
    tokens, heads = torch.randn(6, 5, dim), 3
    cos, sin = torch.randn(2, 6, dim // 2)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        c, s = cos[:, None], sin[:, None]
        return torch.cat((a * c - b * s, b * c + a * s), -1)

    expected = torch.cat((turned(tokens[:, : heads + 1]), tokens[:, heads + 1 :]), 1)
    operators.rope_(tokens[:, :heads], tokens[:, heads : heads + 1], cos, sin)
    torch.testing.assert_close(tokens, expected)


LENGTHS = [(1, 1), (100, 7), (160, 1), (40, 40), (131, 3)]  # context_len, query_len of each sequence


def pages_and_queries(
    heads: int, kv_heads: int, dim: int, page: int, dtype: torch.dtype, lengths: Sequence[tuple[int, int]] = LENGTHS
) -> tuple[Tensor, ...]:
    context_lens, query_lens = torch.tensor(lengths, dtype=torch.int32).unbind(1)
    count = -(-int(context_lens.max()) // page)
    tables = torch.randperm(len(lengths) * count).view(len(lengths), count).int()
    k, v = torch.randn(2, tables.numel(), page, kv_heads, dim).to(dtype)
    q = torch.randn(int(query_lens.sum()), heads + kv_heads, dim)[:, :heads]
    return q, k, v, tables, context_lens.contiguous(), query_lens.contiguous()


def reference(
    q: Tensor, k: Tensor, v: Tensor, tables: Tensor, contexts: Tensor, counts: Tensor, window: int | None
) -> Tensor:
    results = []
    for tokens, table, context in zip(q.split(counts.tolist()), tables.long(), contexts.tolist(), strict=True):
        keys, values = (x[table].flatten(0, 1)[:context].double().transpose(0, 1) for x in (k, v))
        back = torch.arange(context - len(tokens), context)[:, None] - torch.arange(context)
        visible = (back >= 0) & (back < (window or context))
        queries = tokens.double().transpose(0, 1)
        out = F.scaled_dot_product_attention(queries[None], keys[None], values[None], visible, enable_gqa=True)
        results.append(out[0].transpose(0, 1))
    return torch.cat(results).float()


@needs_kernels
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(14, 2, 64), (4, 4, 20), (6, 3, 80), (2, 1, 256), (16, 16, 128)]
)
def test_attention_over_pages(heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
    for page in (16, 32):
        batch = pages_and_queries(heads, kv_heads, dim, page, dtype)
        for window in (None, 1, 5, 64, 70):
            out = operators.paged_attention(*batch, dim**-0.5, window)
            torch.testing.assert_close(out, reference(*batch, window), rtol=1e-5, atol=1e-5)


@pytest.mark.skipif(not has_bfloat16_products(), reason="these kernels have no products of bfloat16")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "dim"), [(14, 2, 64), (12, 2, 128), (4, 4, 20), (6, 3, 80), (2, 1, 256), (40, 1, 64)]
)
def test_prompts_are_as_exact_as_bfloat16(heads: int, kv_heads: int, dim: int, dtype: torch.dtype) -> None:
    """Parts of prompts, whole ones, and single tokens beside them, with keys that lie far from zero as Qwen's do."""
    lengths = [(300, 300), (1, 1), (260, 3), (128, 64), (257, 65), (40, 40)]
    q, k, v, *where = pages_and_queries(heads, kv_heads, dim, 16, dtype, lengths)
    k = k + 3 * torch.randn(dim).to(dtype)
    for window in (None, 1, 5, 64, 70):
        expected = reference(q, k, v, *where, window)
        out = operators.attend(q, operators.describe_cache(k, v, *where), dim**-0.5, window, as_prompts=True)
        rounded = reference(*(x.bfloat16().float() for x in (q, k, v)), *where, window)
        bound = 2 * (rounded - expected).square().mean(-1).sqrt() + 0.01
        assert ((out - expected).square().mean(-1).sqrt() <= bound).all()


@needs_kernels
@pytest.mark.parametrize("window", [None, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(14, 2, 64), (4, 4, 128), (20, 2, 32)])
def test_attention_of_a_token_does_not_depend_on_its_company(
    heads: int, kv_heads: int, dim: int, dtype: torch.dtype, window: int | None
) -> None:
    """R24: alone, in a batch, in any chunk, on any number of threads: the same bits."""
    batch = q, k, v, tables, context_lens, query_lens = pages_and_queries(heads, kv_heads, dim, 32, dtype)
    out = operators.paged_attention(*batch, 0.125, window)
    one = torch.ones(1, dtype=torch.int32)
    token = 0
    for row, (context_len, query_len) in enumerate(LENGTHS):
        for position in range(context_len - query_len, context_len):
            alone = operators.paged_attention(
                q[token : token + 1], k, v, tables[row : row + 1], one + position, one, 0.125, window
            )
            assert torch.equal(alone[0], out[token])
            token += 1
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    assert torch.equal(operators.paged_attention(*batch, 0.125, window), out)
    torch.set_num_threads(threads)


def test_limits_between_the_ways_are_measured_once(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    few, some, many = row_limits.WAYS
    start, each = {few: 0, some: 14, many: 60}, {few: 4, some: 3, many: 2}  # faster by the row, dearer to begin
    monkeypatch.setattr(row_limits, "_seconds", lambda run, rows, way: start[way] + each[way] * rows)
    assert row_limits.limits(tmp_path, ["int4"], lambda *_: None) == {"int4": (12, 32)}
    monkeypatch.setattr(row_limits, "_seconds", lambda *_: pytest.fail("measured again"))
    assert row_limits.limits(tmp_path, ["int4"], lambda *_: None) == {"int4": (12, 32)}


def test_a_way_that_always_wins_has_no_limit(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_limits, "_seconds", lambda run, rows, way: 0 if way == row_limits.ONE_WAY else rows)
    assert row_limits.limits(tmp_path, ["bf16"], lambda *_: None) == {"bf16": row_limits.ONE_WAY}


LINEARS = """
import torch
from qianwen.kernels.cpu.build import family
from qianwen.kernels.cpu.row_limits import WAYS
from qianwen.model.linears.packed import PackedLinear
torch.manual_seed(0)
for format in ("int4", "int5", "int8", "bf16"):
    linear, x = PackedLinear.from_float(torch.randn(70, 896), format=format), torch.randn(20, 896)
    expected = x @ linear.dequantize().T
    for linear.limits in WAYS:
        assert (linear(x) - expected).norm() < 0.02 * expected.norm(), (format, linear.limits)
print(family().name)
"""


@pytest.mark.slow
@needs_kernels
@pytest.mark.parametrize("name", [each.name for each in available_families()])
def test_every_family_of_this_processor_can_be_forced(name: str) -> None:
    environment = {**os.environ, SWITCH: name}
    run = subprocess.run(
        [sys.executable, "-c", LINEARS], check=True, env=environment, timeout=100, capture_output=True, text=True
    )
    assert run.stdout.split()[-1] == name
