"""Many adapters over one network, and for every token the one it asked for (Chen et al. 2023, "Punica").

    y = W x + scale_a · B_a A_a x        a: the adapter of the request that x belongs to, or none

The weights W are there once, in whatever format, and run over all rows of a step together; each adapter then runs over
its own rows. Which rows those are is said once a step:

    bank = AdapterBank(model)
    bank.add("service", read_adapter(model, folder))
    with bank.step(["service", ""], [3, 1]):        three tokens through the adapter, one through the base alone
        hidden = model(ids)

A step without any adapter may run fused layers. One with adapters needs the modules (`needs_modules`). Bits that must
not depend on the neighbours (`is_invariant`) need one way and one number of rows for all: then layers are never fused,
and an adapter runs over every row and is added where it belongs.

Only low-rank changes of the layers' linears can share a base; an adapter that changed more is refused.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from qianwen.model.linears.lora import (
    LINEARS,
    Adapter,
    AdapterRows,
    LoraLinear,
    LowRank,
    Rows,
    adapter_dtype,
    device_of,
)
from qianwen.model.transformer import Qwen, replace_module
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr


class AdapterBank:
    """The adapters of one network by name. Wraps linears where adapters touch them; for inference alone."""

    def __init__(self, model: Qwen, *, is_invariant: bool = False) -> None:
        self.model = model
        self.names: list[str] = []
        self.rows = AdapterRows(is_invariant)
        self._decoder = weakref.ref(model.model)  # that the adapters are on

    def add(self, name: str, adapter: Adapter) -> None:
        """Let requests name `adapter`, which was read for this network. CheckpointError if it changes too much."""
        others = [*adapter.whole, *(name for name in adapter.linears if name.rpartition(".")[2] not in LINEARS)]
        if others:
            message = "{path}: this adapter also changes {names}, so it cannot share its base: serve it as a model"
            raise CheckpointError(tr(message, path=name, names=", ".join(others)))
        for linear_name, change in adapter.linears.items():
            linear = self.model.get_submodule(linear_name)
            if not isinstance(linear, LoraLinear) or not (linear.rows is None or linear.rows is self.rows):
                linear = LoraLinear(linear)
                replace_module(self.model, linear_name, linear)
            linear.rows = self.rows
            device, dtype = device_of(linear.base), adapter_dtype(linear.base)
            b = (change.b.float() * change.scale).to(device, dtype)
            linear.changes[name] = LowRank(change.a.to(device, dtype, copy=True), b, 1.0)
        self.names.append(name)

    @property
    def needs_modules(self) -> bool:
        """Whether the step must run its linears one by one, so that changes are added to them."""
        return bool(self.rows.spans) or self.rows.is_invariant

    @contextmanager
    def step(self, names: Sequence[str], counts: Sequence[int]) -> Iterator[None]:
        """A forward whose rows are `counts[i]` tokens of adapter `names[i]`, in this order; "" is the base."""
        if any(names) and self._decoder() is not self.model.model:
            message = "adapters {names} were added to weights that were swapped since (`serving`): make a new LLM"
            raise ConfigError(tr(message, names=", ".join(sorted(set(names) - {""}))))
        self.rows.spans = self._spans(names, counts)
        try:
            yield
        finally:
            self.rows.spans = []

    def _spans(self, names: Sequence[str], counts: Sequence[int]) -> list[tuple[str, Rows]]:
        pieces: dict[str, list[range]] = {}
        end = 0
        for name, count in zip(names, counts, strict=True):
            if name:
                pieces.setdefault(name, []).append(range(end, end + count))
            end += count
        device = self.model.model.embed_tokens.weight.device
        return [(name, _rows(ranges, device)) for name, ranges in pieces.items()]


def _rows(ranges: list[range], device: torch.device) -> Rows:
    """A slice where the ranges lie side by side, else every row by number."""
    first, last = ranges[0].start, ranges[-1].stop
    if sum(map(len, ranges)) == last - first:
        return slice(first, last)
    return torch.tensor([row for rows in ranges for row in rows], device=device)
