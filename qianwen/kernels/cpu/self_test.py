"""Every compiled kernel beside its PyTorch form on small inputs, before it is used for the first time.

    python -m qianwen.kernels.cpu.self_test        prints a JSON object: each kernel → "" or what is wrong with it

`build.py` runs it once for each library, in a process of its own: a kernel that crashes is then a failure like another.
Inputs are drawn from a fixed seed; the bounds are those of the number formats (bytes: 3 %, bfloat16: 1 %, else fp32).
"""

import json
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from qianwen.kernels.cpu import operators, training
from qianwen.kernels.cpu.row_limits import WAYS
from qianwen.kernels.packing import FORMATS, Quantized, pack, pack_dense

EXACT, BFLOAT16, BYTES = 1e-4, 0.01, 0.03  # of the size of the result


def results() -> dict[str, str]:
    """Each kernel, and what is wrong with it: nothing, or its distance from PyTorch's result, or the error it raised."""
    torch.manual_seed(0)
    return {name: _verdict(pairs, bound) for name, (pairs, bound) in _KERNELS.items()}


def _verdict(pairs: Callable[[], Iterator[tuple[Tensor, Tensor]]], bound: float) -> str:
    try:
        distances = [_distance(ours, theirs) for ours, theirs in pairs()]
    except Exception as error:  # whatever it is, this kernel must not be used
        return f"{type(error).__name__}: {error}"
    worst = max(distances)
    return "" if worst <= bound else f"differs from PyTorch by {worst:.2g} of its size, {bound:g} is allowed"


def _distance(ours: Tensor, theirs: Tensor) -> float:
    distance = float((ours.double() - theirs.double()).norm() / theirs.double().norm())
    return distance if distance == distance else float("inf")


def random_weight(format: str, outputs: int, inputs: int) -> Quantized:
    """Random integers and scales in a format."""
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


def _linears() -> Iterator[tuple[Tensor, Tensor]]:
    shape = 70, 300
    for format, form in FORMATS.items():
        if format == "bf16":
            weight = torch.randn(shape).bfloat16()
            packed, dense = pack_dense(weight), weight.float()
        else:
            codes = random_weight(format, *shape)
            packed, dense = pack(codes), codes.dequantize()
        for rows in (1, 5, 40):
            x, bias = torch.randn(rows, shape[1]), torch.randn(shape[0])
            for limits in WAYS:
                yield operators.Linear(packed, bias, shape, form.index, limits)(x), F.linear(x, dense, bias)


def _norms() -> Iterator[tuple[Tensor, Tensor]]:
    for size in (7, 64, 130):
        x, weight, residual = torch.randn(3, size), torch.rand(size), torch.randn(3, size)
        total = x + residual
        yield operators.rms_norm(x, weight, 1e-6, residual), F.rms_norm(total, (size,), weight, 1e-6)
        yield residual, total


def _gates() -> Iterator[tuple[Tensor, Tensor]]:
    for size in (1, 100):
        both = torch.randn(3, 2 * size) * 20
        yield operators.silu_mul(both), F.silu(both[:, :size]) * both[:, size:]


def _rotations() -> Iterator[tuple[Tensor, Tensor]]:
    for dim in (20, 64):
        heads, (cos, sin) = torch.randn(6, 4, dim), torch.randn(2, 6, dim // 2)
        (a, b), c, s = heads.chunk(2, -1), cos[:, None], sin[:, None]
        expected = torch.cat((a * c - b * s, b * c + a * s), -1)
        operators.rope_(heads[:, :3], heads[:, 3:], cos, sin)
        yield heads, expected


def _attend_pages(as_prompts: bool) -> Iterator[tuple[Tensor, Tensor]]:
    heads, kv_heads, dim, page, length = 4, 2, 64, 16, 100
    for dtype in (torch.float32, torch.bfloat16):
        tables = torch.randperm(7).view(1, 7).int()
        k, v = torch.randn(2, 7, page, kv_heads, dim).to(dtype)
        keys, values = (x[tables[0].long()].flatten(0, 1)[:length].float() for x in (k, v))
        for queries, window in ((1, 0), (70, 0), (70, 30)):
            q, counts = torch.randn(queries, heads, dim), torch.tensor([[length], [queries]]).int()
            seen = torch.ones(queries, length, dtype=torch.bool).tril(length - queries)
            seen = seen.triu(length - queries + 1 - window) if window else seen
            turned = (x.transpose(0, 1) for x in (q, keys, values))
            expected = F.scaled_dot_product_attention(*turned, seen, enable_gqa=True).transpose(0, 1)
            cache = operators.describe_cache(k, v, tables, counts[0], counts[1])
            yield operators.attend(q, cache, dim**-0.5, window or None, as_prompts), expected


def _documents() -> Iterator[tuple[Tensor, Tensor]]:
    heads, kv_heads, dim, tokens = 4, 2, 32, 128
    shapes = ((tokens, n, dim) for n in (heads, kv_heads, kv_heads))
    q, k, v = (torch.randn(shape).bfloat16().requires_grad_() for shape in shapes)
    first = torch.tensor([0] * 50 + [50] * 78).int()
    wide = [x.detach().double().requires_grad_() for x in (q, k, v)]
    seen = (torch.arange(tokens) >= first[:, None]).tril()
    turned = (x.transpose(0, 1) for x in wide)
    expected = F.scaled_dot_product_attention(*turned, seen, enable_gqa=True).transpose(0, 1)
    d_out = torch.randn(tokens, heads, dim).bfloat16()
    ours = training.attend_documents(q, k, v, first)
    gradients = torch.autograd.grad(ours, (q, k, v), d_out)
    yield ours.detach(), expected.detach()
    yield from zip(gradients, torch.autograd.grad(expected, wide, d_out.double()), strict=True)


def _losses() -> Iterator[tuple[Tensor, Tensor]]:
    scores, targets = torch.randn(5, 77).bfloat16() * 3, torch.tensor([3, 76, -100, 0, 40])
    logprobs, is_labelled = scores.double().log_softmax(-1), targets >= 0
    labels = targets.clamp(0)
    expected = -logprobs.gather(1, labels[:, None])[:, 0] * is_labelled
    gradient = (logprobs.exp() - F.one_hot(labels, 77)) * is_labelled[:, None]
    yield training.softmax_loss_(scores, targets), expected
    yield scores, gradient


def _grids() -> Iterator[tuple[Tensor, Tensor]]:
    from qianwen.kernels.rounding import fit

    weight, importance = torch.randn(9, 64), torch.rand(64)
    yield from zip(operators.fit(weight, importance, 15, 8), fit(weight, importance, 15, 8), strict=True)


_KERNELS: dict[str, tuple[Callable[[], Iterator[tuple[Tensor, Tensor]]], float]] = {
    "linears": (_linears, BYTES),
    "norms": (_norms, EXACT),
    "gates": (_gates, EXACT),
    "rotary positions": (_rotations, EXACT),
    "attention over pages": (lambda: _attend_pages(False), EXACT),
    "attention of prompts": (lambda: _attend_pages(True), BFLOAT16),
    "attention for training": (_documents, BFLOAT16),
    "loss": (_losses, BFLOAT16),
    "rounding": (_grids, EXACT),
}


if __name__ == "__main__":
    print(json.dumps(results()))
