"""The fast loops of a decoder on a CPU, in C++ called through ctypes.

    formats.h  activations.h         how weights and activations lie in memory
    linear.h  few_rows.h  many_rows.h  dense.h  linears.h       y = x · Wᵀ + b for packed weights
    amx.h  amx_bytes.h  amx_dense.h  amx_wide.h  amx_rows.h     the same for many rows on a processor with AMX
    elementwise.h  attention.h       norms, rotary positions, the gate; attention over pages
    few_queries.h                    attention of a single token over pages
    amx_blocks.h  prompts.h          attention on AMX: of prompts
    documents.h  softmax.h           for training (`training.py`): of packed documents and back; the loss
    kernels.cpp  build.py            the C functions; compiling them at first use
    row_limits.py                    up to how many rows each way of computing a linear is the fastest

The functions below take and return fp32 tensors on the CPU and share PyTorch's OpenMP threads: `torch.set_num_threads`
holds for them too. A row's results have the same bits whatever rows stand beside it: always in `rms_norm`, `rope_`,
`silu_mul` and `paged_attention`, and in a `Linear` that knows one way only (`row_limits.ONE_WAY`).

They need a processor of one of `build.FAMILIES`; ask `available()` first.
Shapes: T tokens of all sequences, S sequences, N pages, b page size, h query heads, g key/value heads, d head_dim.
"""

import ctypes
import functools
import mmap
from contextlib import suppress
from ctypes import c_float, c_int64, c_void_p

import torch
from torch import Tensor

from qianwen.kernels.cpu import row_limits
from qianwen.kernels.cpu.build import library
from qianwen.kernels.cpu.row_limits import ONE_WAY, Limits
from qianwen.runtime.compiler import is_usable
from qianwen.runtime.translation import tr

TRIAL_SIZE = 1536
FORMATS = ["int4", "int5", "q4_0", "q5_0", "q6_k", "q8_0", "int8", "bf16"]  # as numbered in formats.h


@functools.cache
def available() -> bool:
    """Whether the kernels run here; compiles them at the first call."""
    return is_usable(library(), tr("quantised models will be slow"))


class _Linear(ctypes.Structure):
    _fields_ = [
        ("packed", c_void_p),
        ("bias", c_void_p),
        ("inputs", c_int64),
        ("outputs", c_int64),
        ("format", c_int64),
        ("few", c_int64),
        ("some", c_int64),
        ("splits_outliers", c_int64),
    ]


class Cache(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("k", "v")),
        *((name, c_int64) for name in ("is_bfloat16", "page_size", "kv_heads", "dim")),
        ("tables", c_void_p),
        ("table_size", c_int64),
        *((name, c_void_p) for name in ("context_lens", "query_lens")),
        ("sequences", c_int64),
    ]


class _Queries(ctypes.Structure):
    _fields_ = [
        ("q", c_void_p),
        ("stride", c_int64),
        ("heads", c_int64),
        ("scale", c_float),
        ("window", c_int64),
        ("out", c_void_p),
    ]


@functools.cache
def functions() -> ctypes.CDLL:
    """The C functions of kernels.cpp."""
    path = library().path
    assert path is not None, "call available() first"
    functions = ctypes.CDLL(str(path))  # its OpenMP is torch's, already in the process (team.h)
    prototypes = {
        "qw_linear": (c_void_p, c_void_p, c_int64, c_void_p),
        "qw_layer": (c_void_p, c_void_p),
        "qw_rms_norm": (c_void_p, c_void_p, c_float, c_int64, c_int64, c_void_p, c_void_p),
        "qw_silu_mul": (c_void_p, c_int64, c_int64, c_void_p),
        "qw_rope": (*(c_void_p, c_int64, c_int64) * 2, c_int64, c_int64, c_void_p, c_void_p),
        "qw_paged_attention": (c_void_p, c_void_p, c_int64),
        "qw_attend_documents": (c_void_p,),
        "qw_differentiate_documents": (c_void_p, c_void_p),
        "qw_softmax_loss": (c_void_p, c_void_p, c_int64, c_int64, c_void_p),
        "qw_fit": (c_void_p, c_int64, c_int64, c_void_p, c_int64, c_int64, c_void_p, c_void_p),
    }
    for name, types in prototypes.items():
        getattr(functions, name).argtypes = types
        getattr(functions, name).restype = None
    return functions


def _check(*tensors: Tensor) -> None:
    for tensor in tensors:
        assert tensor.dtype == torch.float32 and tensor.device.type == "cpu" and tensor.is_contiguous()


class Linear:
    """A packed weight (`packing.py`) and its bias, ready to be applied. Keeps both alive.

    `index` is the format's number; `limits` say how many rows are computed in which way; `splits_outliers` spends twice
    the bits on rows with an outlier (outliers.h).
    """

    def __init__(
        self,
        packed: Tensor,
        bias: Tensor | None,
        shape: tuple[int, int],
        index: int,
        limits: Limits,
        splits_outliers: bool = False,
    ) -> None:
        self.tensors, self.outputs, self.limits = (packed, bias), shape[0], limits
        self.splits_outliers = splits_outliers
        where = None if bias is None else bias.data_ptr()
        self._struct = _Linear(packed.data_ptr(), where, shape[1], shape[0], index, *limits, splits_outliers)
        self.address = ctypes.addressof(self._struct)

    def __call__(self, x: Tensor) -> Tensor:
        """x [T, inputs] → [T, outputs]."""
        _check(x)
        out = torch.empty(x.size(0), self.outputs)
        functions().qw_linear(self.address, x.data_ptr(), x.size(0), out.data_ptr())
        return out


@functools.cache
def limits(format: str) -> Limits:
    """Up to how many rows each way of computing a linear in this format is the fastest one here."""
    records = library().records
    assert records is not None
    return row_limits.limits(records, FORMATS, _try).get(format, ONE_WAY)


def _try(format: str, rows: int, limits: Limits) -> None:
    _trial(format, limits)(torch.zeros(rows, TRIAL_SIZE))


@functools.cache
def _trial(format: str, limits: Limits) -> Linear:
    zeros = torch.zeros(TRIAL_SIZE * TRIAL_SIZE * 2, dtype=torch.uint8)
    return Linear(zeros, None, (TRIAL_SIZE, TRIAL_SIZE), FORMATS.index(format), limits)


def rms_norm(x: Tensor, weight: Tensor, eps: float, residual: Tensor | None = None) -> Tensor:
    """x / rms(x) · weight for x [T, size]. With `residual`, x is first added to it in place and the sum normalised."""
    _check(x, weight)
    out = torch.empty_like(x)
    where = None if residual is None else residual.data_ptr()
    functions().qw_rms_norm(x.data_ptr(), weight.data_ptr(), eps, x.size(0), x.size(1), where, out.data_ptr())
    return out


def rope_(q: Tensor, k: Tensor, cos: Tensor, sin: Tensor) -> None:
    """Rotate q [T, h, d] and k [T, g, d] in place by cos and sin [T, d / 2]; tokens may lie apart, heads may not."""
    _check(cos, sin)
    heads = [(x.data_ptr(), x.stride(0), x.size(1)) for x in (q, k)]
    functions().qw_rope(*heads[0], *heads[1], q.size(0), q.size(2), cos.data_ptr(), sin.data_ptr())


def silu_mul(gate_up: Tensor) -> Tensor:
    """silu(gate) · up for [T, 2 · size], gates first → [T, size]."""
    _check(gate_up)
    out = torch.empty(gate_up.size(0), gate_up.size(1) // 2)
    functions().qw_silu_mul(gate_up.data_ptr(), out.size(0), out.size(1), out.data_ptr())
    return out


def paged_attention(
    q: Tensor,
    k_pages: Tensor,
    v_pages: Tensor,
    block_tables: Tensor,
    context_lens: Tensor,
    query_lens: Tensor,
    scale: float,
    window: int | None = None,
) -> Tensor:
    """Causal attention of all tokens of a step over their own sequences' pages, which hold the step's keys already.

    q [T, h, d], computed in fp32, the tokens of a sequence in a row, heads contiguous; pages [N, b, g, d] fp32 or bf16;
    block_tables [S, pages], context_lens and query_lens [S], all int32: a sequence's pages, its length after this step
    and how many of its last tokens q has. `window`: each token sees only that many, itself included. → [T, h, d].
    """
    cache = describe_cache(k_pages, v_pages, block_tables, context_lens, query_lens)
    return attend(q.float(), cache, scale, window).to(q.dtype)


def attend(q: Tensor, cache: Cache, scale: float, window: int | None = None, as_prompts: bool = False) -> Tensor:
    """`paged_attention` over a described cache.

    `as_prompts`: many tokens of one sequence are computed in bfloat16 where the processor multiplies it. That is faster
    and rounds more, and a token's bits then depend on its company. Layers do so where their linears do.
    """
    assert q.dtype == torch.float32 and q.stride(-1) == 1 and q.stride(-2) == q.size(2)
    out = torch.empty(q.shape)
    queries = _Queries(q.data_ptr(), q.stride(0), q.size(1), scale, window or 0, out.data_ptr())
    functions().qw_paged_attention(ctypes.addressof(cache), ctypes.addressof(queries), as_prompts)
    return out


def describe_cache(
    k_pages: Tensor, v_pages: Tensor, block_tables: Tensor, context_lens: Tensor, query_lens: Tensor
) -> Cache:
    """The arguments of `paged_attention` as C has them; whoever calls keeps the tensors alive."""
    assert k_pages.is_contiguous() and v_pages.is_contiguous() and k_pages.dtype in (torch.float32, torch.bfloat16)
    assert all(x.dtype == torch.int32 and x.is_contiguous() for x in (block_tables, context_lens, query_lens))
    return Cache(
        k_pages.data_ptr(),
        v_pages.data_ptr(),
        k_pages.dtype == torch.bfloat16,
        *k_pages.shape[1:],
        block_tables.data_ptr(),
        block_tables.size(1),
        context_lens.data_ptr(),
        query_lens.data_ptr(),
        len(query_lens),
    )


def fit(weight: Tensor, importance: Tensor, top: int, ranges: int) -> tuple[Tensor, Tensor]:
    """Steps and minima [N, K / 32] of the best grids of `top` + 1 codes for weight [N, K]; see `rounding.py`."""
    _check(weight, importance)
    steps, lows = torch.empty(2, weight.size(0), weight.size(1) // 32)
    where = (steps.data_ptr(), lows.data_ptr())
    functions().qw_fit(weight.data_ptr(), *weight.shape, importance.data_ptr(), top, ranges, *where)
    return steps, lows


def huge_tensor(num_bytes: int) -> Tensor:
    """Uninitialised uint8 memory in pages of 2 MB where the system has them: reading it misses the TLB less often."""
    memory = mmap.mmap(-1, max(num_bytes, 1))
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with suppress(OSError):  # a system built without them
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8)[:num_bytes]
