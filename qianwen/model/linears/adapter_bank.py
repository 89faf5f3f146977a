"""Many adapters for one network; each token uses the adapter of its request (Chen et al. 2023, "Punica").

    y = W x + scale_a · B_a A_a x        a: the adapter of the request that x belongs to, or none

The weights W exist once, in any format, and are multiplied with all rows of a step together. Then each adapter runs on
its own rows, which `step` sets for one forward:

    bank = AdapterBank(model)
    bank.add("service", read_adapter(model, folder))
    with bank.step(["service", ""], [3, 1]):        three tokens with the adapter, one with the base model only
        hidden = model(ids)

A step without adapters can run fused layers; a step with adapters runs modules (`needs_modules`). With `is_invariant`
the bits of a row must not depend on other rows. So layers are never fused, and an adapter runs on all rows of the step,
but its result is added only to its own rows.

Only low-rank changes of the layers' linears can share a base model; an adapter with other changes is rejected.
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
    """The adapters of one network by name, for inference. Linears that an adapter changes are wrapped."""

    def __init__(self, model: Qwen, *, is_invariant: bool = False) -> None:
        self.model = model
        self.names: list[str] = []
        self.rows = AdapterRows(is_invariant)
        self._decoder = weakref.ref(model.model)  # the decoder whose linears are wrapped (`serving` swaps it)

    def add(self, name: str, adapter: Adapter) -> None:
        """Add `adapter` as `name`. CheckpointError if it changes more than the linears of layers."""
        others = [*adapter.full_weights, *(name for name in adapter.linears if name.rpartition(".")[2] not in LINEARS)]
        if others:
            message = (
                "{path}: this adapter also changes {names}, so it cannot share the base model: serve it as a model"
            )
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
        """Whether the current step must run the layers as modules, so that changes can be added."""
        return bool(self.rows.spans) or self.rows.is_invariant

    @contextmanager
    def step(self, names: Sequence[str], counts: Sequence[int]) -> Iterator[None]:
        """A block for one forward with `counts[i]` tokens of adapter `names[i]`, in order; "" is the base model."""
        if any(names) and self._decoder() is not self.model.model:
            message = "the weights were swapped (`serving`) after adapters {names} were added: create a new LLM"
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
    """A slice if the ranges are contiguous (no copy of rows), else the index of each row."""
    first, last = ranges[0].start, ranges[-1].stop
    if sum(map(len, ranges)) == last - first:
        return slice(first, last)
    return torch.tensor([row for rows in ranges for row in rows], device=device)
