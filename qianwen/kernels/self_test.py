"""Every fast loop run once on small random numbers, beside PyTorch's form of it. `qianwen doctor` prints the result.

    python -m qianwen.kernels.self_test        prints what is wrong with the compiled kernels, a JSON list

`cpu/build.py` runs that once for each library before it is used, in a process of its own: a kernel that crashes has
failed like any other.

    error = |ours - PyTorch's| / |PyTorch's|, of the whole result, and the largest that rounding explains

on_cpu         linears in every format and by every way of computing them, attention over pages, norms, rotary
               positions, the gate
for_training   attention over packed documents with its gradients, and the softmax loss, in bfloat16
on_gpu         packed linears and attention over pages, in Triton

Ask for those that run here: see `dispatch.py`. The tests compare at many more shapes.
"""

import json
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu import operators, training
from qianwen.kernels.cpu.row_limits import WAYS
from qianwen.kernels.packing import FORMATS, Quantized, pack, pack_dense, unpack_dense
from qianwen.kernels.rounding import fit

EXACT, AS_BYTES, AS_BFLOAT16 = 1e-4, 0.03, 0.02  # largest errors: fp32 sums; activations rounded to bytes; to bfloat16
OUTPUTS, INPUTS, ROWS = 130, 896, 33  # no multiples of a panel or a block


class Outcome(NamedTuple):
    """The largest relative error of one loop."""

    loop: str
    error: float
    largest: float  # that is allowed

    @property
    def is_right(self) -> bool:
        return self.error <= self.largest  # false for NaN too


def on_cpu() -> Iterator[Outcome]:
    """The compiled kernels for answering. They must be available."""
    for format in FORMATS:
        yield _linear(format)
    yield Outcome("attention", _attention_error(_attend_pages(as_prompts=False)), EXACT)
    yield Outcome("attention of prompts", _attention_error(_attend_pages(as_prompts=True)), AS_BFLOAT16)
    x, weight = torch.randn(3, 130), torch.rand(130)
    yield _outcome("rms_norm", operators.rms_norm(x, weight, 1e-6), F.rms_norm(x, (130,), weight, 1e-6), EXACT)
    yield _rope()
    both = torch.randn(4, 200)
    expected = F.silu(both[:, :100]) * both[:, 100:]
    yield _outcome("silu_mul", operators.silu_mul(both), expected, EXACT)
    weight, importance = torch.randn(9, 64), torch.rand(64)
    ours, expected = operators.fit(weight, importance, 15, 8), fit(weight, importance, 15, 8)
    yield _outcome("rounding", torch.cat(ours), torch.cat(expected), EXACT)


def for_training() -> Iterator[Outcome]:
    """The loops for training in bfloat16. They must be usable."""
    first = torch.tensor([0] * 100 + [100] * 60, dtype=torch.int32)  # two documents
    inputs = [torch.randn(160, heads, 64).bfloat16() for heads in (4, 2, 2)]
    upstream = torch.randn(160, 4, 64)
    ours = _with_gradients(training.attend_documents, inputs, first, upstream)
    exact = _with_gradients(_attend_documents, [x.double() for x in inputs], first, upstream)
    names = ("attention", "gradient of q", "gradient of k", "gradient of v")
    for name, result, expected in zip(names, ours, exact, strict=True):
        yield _outcome(name, result, expected, AS_BFLOAT16)
    scores, targets = torch.randn(6, 1000).bfloat16(), torch.randint(0, 1000, (6,))
    expected = F.cross_entropy(scores.double(), targets, reduction="none")
    yield _outcome("softmax loss", training.softmax_loss_(scores, targets), expected, EXACT)


def on_gpu(kernels: ModuleType, device: str = "cuda") -> Iterator[Outcome]:
    """The functions of `kernels`, which is what `dispatch.on_gpu` gives; Triton's interpreter runs them on the CPU."""
    yield Outcome("attention", _attention_error(kernels.paged_attention, device), EXACT)
    for format in FORMATS:
        if format == "bf16":
            continue
        weight, bias = random_weight(format), torch.randn(OUTPUTS, device=device)
        packed, x = pack(weight).to(device), torch.randn(kernels.MOST_ROWS, INPUTS, device=device)
        exact = weight.dequantize().to(device)
        unpacked = kernels.unpack(packed, format, OUTPUTS, INPUTS, torch.float32)
        yield _outcome(f"unpack {format}", unpacked, exact, EXACT)
        y = kernels.few_rows(x, packed, format, OUTPUTS, bias)
        yield _outcome(f"linear {format}", y, x.double() @ exact.double().T + bias, EXACT)


def random_weight(format: str, outputs: int = OUTPUTS, inputs: int = INPUTS) -> Quantized:
    """Random integers and scales of a format other than bf16."""
    form = FORMATS[format]
    blocks, small = -(-inputs // 256), -(-inputs // form.scale_inputs)
    codes = torch.randint(0, 1 << form.bits, (outputs, inputs), dtype=torch.uint8)
    d, e = (torch.rand(2, outputs, blocks if form.has_blocks else small) * 0.01 + 0.002).half()
    if form.is_affine:
        s, t = torch.randint(0, 64, (2, outputs, small), dtype=torch.uint8)
        return Quantized(format, codes, d, s, e, t)
    if form.is_signed:
        return Quantized(format, codes, d, torch.randint(-128, 128, (outputs, small), dtype=torch.int8))
    return Quantized(format, codes, d)


def failures() -> list[str]:
    """What is wrong with the compiled kernels, each in a few words."""
    torch.manual_seed(0)
    outcomes = [*on_cpu(), *for_training()]
    return [f"{each.loop} differs from PyTorch by {each.error:.2g}" for each in outcomes if not each.is_right]


def _linear(format: str) -> Outcome:
    """Few rows and many, by every way of computing them; the largest error of all."""
    if format == "bf16":
        packed = pack_dense(torch.randn(OUTPUTS, INPUTS))
        exact = unpack_dense(packed, OUTPUTS, INPUTS).double()
    else:
        weight = random_weight(format)
        packed, exact = pack(weight), weight.dequantize().double()
    bias, x = torch.randn(OUTPUTS), torch.randn(ROWS, INPUTS)
    expected = x.double() @ exact.T + bias
    shape, index = (OUTPUTS, INPUTS), FORMATS[format].index
    linears = [operators.Linear(packed, bias, shape, index, limits) for limits in WAYS]
    errors = [_error(linear(x[:rows]), expected[:rows]) for linear in linears for rows in (1, ROWS)]
    return Outcome(f"linear {format}", _worst(errors), AS_BYTES)


def _attention_error(attend: Callable[..., Tensor], device: str = "cpu") -> float:
    """The error of attention over pages in any order, with and without a window.

    A prompt and a single token of another sequence; then single tokens alone.
    """
    heads, kv_heads, dim, page = 6, 2, 64, 32
    errors = []
    for contexts, counts in (([70, 40], [1, 40]), ([600, 70], [1, 1])):
        tables = torch.randperm(2 * 19, device=device).view(2, 19)
        k, v = torch.randn(2, 2 * 19, page, kv_heads, dim, device=device)
        q = torch.randn(sum(counts), heads, dim, device=device)
        for window in (None, 20):
            parts = []
            for tokens, table, context in zip(q.split(counts), tables, contexts, strict=True):
                back = torch.arange(context - len(tokens), context)[:, None] - torch.arange(context)
                keys, values = (pages[table].flatten(0, 1)[:context] for pages in (k, v))
                visible = ((back >= 0) & (back < (window or context))).to(device)
                parts.append(_attend(tokens, keys, values, visible))
            lengths = torch.tensor([contexts, counts], dtype=torch.int32, device=device)
            out = attend(q, k, v, tables.int(), *lengths, dim**-0.5, window)
            errors.append(_error(out, torch.cat(parts)))
    return _worst(errors)


def _attend_pages(as_prompts: bool) -> Callable[..., Tensor]:
    """The compiled attention over pages, of the kind for prompts or of the other."""

    def attend(q: Tensor, *cache_and_rest) -> Tensor:
        *cache, scale, window = cache_and_rest
        return operators.attend(q, operators.describe_cache(*cache), scale, window, as_prompts)

    return attend


def _rope() -> Outcome:
    q, k = torch.randn(6, 3, 64), torch.randn(6, 1, 64)
    cos, sin = torch.randn(2, 6, 32)

    def turned(x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        return torch.cat((a * cos[:, None] - b * sin[:, None], b * cos[:, None] + a * sin[:, None]), -1)

    expected = torch.cat((turned(q), turned(k)), 1)
    operators.rope_(q, k, cos, sin)
    return _outcome("rope", torch.cat((q, k), 1), expected, EXACT)


def _attend(q: Tensor, k: Tensor, v: Tensor, visible: Tensor) -> Tensor:
    """PyTorch's attention of q [T, h, d] over k and v [S, g, d] in double precision."""
    q, k, v = (x.double().transpose(0, 1)[None] for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v, visible, enable_gqa=True)[0].transpose(0, 1)


def _attend_documents(q: Tensor, k: Tensor, v: Tensor, first: Tensor) -> Tensor:
    at = torch.arange(len(q))
    return _attend(q, k, v, (at <= at[:, None]) & (at >= first[:, None]))


def _with_gradients(
    attend: Callable[..., Tensor], inputs: list[Tensor], first: Tensor, upstream: Tensor
) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in inputs]
    out = attend(*leaves, first)
    return [out, *torch.autograd.grad(out, leaves, upstream.to(out.dtype))]


def _outcome(loop: str, ours: Tensor, expected: Tensor, largest: float) -> Outcome:
    return Outcome(loop, _error(ours, expected), largest)


def _error(ours: Tensor, expected: Tensor) -> float:
    return ((ours.double() - expected.double()).norm() / expected.double().norm()).item()


def _worst(errors: list[float]) -> float:
    """The largest, or NaN if there is one."""
    return torch.tensor(errors, dtype=torch.double).max().item()


if __name__ == "__main__":
    print(json.dumps(failures()))
