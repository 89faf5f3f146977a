"""Everything about a run that changes while it runs, in one object: so a resumed run equals an uninterrupted one.

    tensors   float32 weights and optimizer moments, by name       (large, saved as safetensors)
    values    counters, recent losses, extras                      (small, saved as JSON: exact for floats)
    rng       the generators of Python, NumPy and torch            (one set per process)

Frozen weights are not state: they come from where the run took them. The position in the data is `cursor`, the number
of sequences used by all processes together. What cannot be saved fails here, at construction, not in the 900th step.
"""

import base64
import json
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.runtime.translation import tr
from qianwen.train.optim import AdamW


class Stateful(Protocol):
    """A part with changing numbers of its own, such as a KL controller: its state must be plain JSON."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class TrainState:
    """Model, optimizer and counters of one run. `extras` are further parts that must survive a restart."""

    def __init__(self, model: nn.Module, optimizer: AdamW, extras: Mapping[str, Stateful] | None = None) -> None:
        self.model, self.optimizer, self.extras = model, optimizer, dict(extras or {})
        self.step = 0  # optimizer steps taken or refused
        self.cursor = 0  # sequences used, all processes together
        self.tokens_seen = 0  # items the losses were of: tokens with a label, or pairs
        self.skipped_steps = 0  # refused updates in all
        self.consecutive_skips = 0
        self.recent_losses: list[float] = []  # of accepted steps, for telling a spike
        for name, part in self.extras.items():
            _require_plain(name, part.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """The live tensors, to be read or overwritten in place."""
        found: dict[str, Tensor] = {}
        for name, weight in self.optimizer.named_weights():
            found[f"weights/{name}"] = weight.detach()
            found |= {f"optimizer/{name}/{key}": value for key, value in self.optimizer.state[weight].items()}
        return found

    def values(self) -> dict[str, Any]:
        """Everything small, as JSON."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return counters | {"extras": {name: part.state_dict() for name, part in self.extras.items()}}

    def load_values(self, values: dict[str, Any]) -> None:
        """Take `values()` of an earlier process."""
        if values.keys() != self.values().keys() or values["extras"].keys() != self.extras.keys():
            found, own = [*values, *values.get("extras", ())], [*self.values(), *self.extras]
            raise CheckpointError(tr("the checkpoint has {found}, but this run expects {own}", found=found, own=own))
        for name in _COUNTERS:
            setattr(self, name, values[name])
        for name, part in self.extras.items():
            part.load_state_dict(values["extras"][name])


_COUNTERS = ("step", "cursor", "tokens_seen", "skipped_steps", "consecutive_skips", "recent_losses")


def _require_plain(name: str, state: dict[str, Any]) -> None:
    try:
        exact = json.loads(json.dumps(state)) == state
    except (TypeError, ValueError):
        exact = False
    if not exact:
        shown = repr(state)[:200]
        raise ConfigError(
            tr("{name} cannot be saved: its state must be plain JSON, not {state}", name=name, state=shown)
        )


def rng_state() -> dict[str, Any]:
    """The state of every global random generator, as JSON."""
    version, words, gauss = random.getstate()
    kind, keys, *rest = np.random.get_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {
        "python": [version, list(words), gauss],
        "numpy": [kind, np.asarray(keys).tolist(), *rest],
        "torch": _encode(torch.get_rng_state()),
        "cuda": [_encode(state) for state in devices],
    }


def set_rng_state(state: dict[str, Any]) -> None:
    """Put every global random generator back where `rng_state()` saw it."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(_decode(state["torch"]))
    if state["cuda"]:
        torch.cuda.set_rng_state_all([_decode(text) for text in state["cuda"]])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Whatever happens inside draws no number that training would have drawn."""
    before = rng_state()
    try:
        yield
    finally:
        set_rng_state(before)


def _encode(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
