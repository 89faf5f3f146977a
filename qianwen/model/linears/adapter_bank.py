"""Many adapters over one network, and for every token the one it asked for (Chen et al. 2023, "Punica").

    y = W x + scale_a · B_a A_a x        a: the adapter of the request that x belongs to, or none

The weights W are there once, in whatever format, and run over all rows of a step together; each adapter then runs over
its own rows. Which rows those are is said once a step:

    bank = AdapterBank(model)
    bank.add("service", read_adapter(model, folder))
    bank.begin(["service", ""], [3, 1])        three tokens through the adapter, one through the base alone

A step without any adapter takes the way it would take without a bank, fused layers included. One with adapters runs the
ordinary layers. Bits that must not depend on the neighbours (`is_invariant`) need one way and one number of rows for
all: then layers are never fused, and an adapter runs over every row and is kept where it belongs.

Only low-rank changes of the layers' linears can share a base; an adapter that changed more is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.caches.contiguous import KVCache
from qianwen.model.linears.lora import LINEARS, Adapter, adapter_dtype
from qianwen.model.rope import Rotation
from qianwen.model.transformer import Qwen, replace_module, run_layer
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.translation import tr

Rows = slice | Tensor


class BankedLinear(nn.Module):
    """A linear with as many low-rank changes as adapters touch it. Takes x [1, T, K]."""

    def __init__(self, linear: nn.Module, bank: AdapterBank) -> None:
        super().__init__()
        self.base, self.bank = linear, bank
        self.in_features, self.out_features = int(linear.in_features), int(linear.out_features)  # type: ignore[arg-type]
        self.changes: dict[str, tuple[Tensor, Tensor]] = {}  # A [r, K], scale · B [N, r]

    def forward(self, x: Tensor) -> Tensor:
        out = self.base(x)
        for name, rows in self.bank.spans:
            if name in self.changes:
                a, b = self.changes[name]
                if self.bank.is_invariant:
                    change = F.linear(F.linear(x[0].to(a.dtype), a), b).to(out.dtype)
                    out[0, rows] += change[rows]
                else:
                    out[0, rows] += F.linear(F.linear(x[0, rows].to(a.dtype), a), b).to(out.dtype)
        return out


class AdapterBank:
    """The adapters of one network by name. Wraps linears where adapters touch them; for inference alone."""

    def __init__(self, model: Qwen, *, is_invariant: bool = False) -> None:
        self.model, self.is_invariant = model, is_invariant
        self.names: list[str] = []
        self.spans: list[tuple[str, Rows]] = []  # of the step under way: an adapter and its rows
        self._run_alone = model.model.run_layer
        model.model.run_layer = self._run_layer

    def add(self, name: str, adapter: Adapter) -> None:
        """Let requests name `adapter`, which was read for this network. CheckpointError if it changes too much."""
        others = [*adapter.whole, *(name for name in adapter.linears if name.rpartition(".")[2] not in LINEARS)]
        if others:
            message = "{path}: this adapter also changes {names}, so it cannot share its base: serve it as a model"
            raise CheckpointError(tr(message, path=name, names=", ".join(others)))
        for linear_name, change in adapter.linears.items():
            linear = self.model.get_submodule(linear_name)
            if not isinstance(linear, BankedLinear):
                linear = BankedLinear(linear, self)
                replace_module(self.model, linear_name, linear)
            device, dtype = _device(linear.base), adapter_dtype(linear.base)
            b = change.b.float() * change.scale
            linear.changes[name] = change.a.to(device, dtype, copy=True), b.to(device, dtype)
        self.names.append(name)

    def begin(self, names: Sequence[str], counts: Sequence[int]) -> None:
        """Say whose the rows of the next forward are: `counts[i]` tokens of adapter `names[i]`; "" is the base."""
        pieces: dict[str, list[range]] = {}
        end = 0
        for name, count in zip(names, counts, strict=True):
            if name:
                pieces.setdefault(name, []).append(range(end, end + count))
            end += count
        device = self.model.model.embed_tokens.weight.device
        self.spans = [(name, _rows(ranges, device)) for name, ranges in pieces.items()]

    def _run_layer(self, layer: nn.Module, x: Tensor, rotate: Rotation, cache: KVCache) -> Tensor:
        run = run_layer if self.spans or self.is_invariant else self._run_alone
        return run(layer, x, rotate, cache)


def _rows(ranges: list[range], device: torch.device) -> Rows:
    """A slice where the ranges lie side by side, else every row by number."""
    first, last = ranges[0].start, ranges[-1].stop
    if sum(map(len, ranges)) == last - first:
        return slice(first, last)
    return torch.tensor([row for rows in ranges for row in rows], device=device)


def _device(linear: nn.Module) -> torch.device:
    return next(tensor.device for tensor in (*linear.parameters(), *linear.buffers()))
