"""The complete changing state of a run in one object, so that a resumed run equals an uninterrupted one.

    tensors   float32 weights and optimizer moments, by name       (large, saved as safetensors)
    values    counters, recent losses, extras                      (small, saved as JSON: exact for floats)
    rng       the generators of Python, NumPy and torch            (one set per process)

Frozen weights are not saved: they are loaded again from the base model. The position in the data is `cursor`, the
number of sequences used by all processes together. State that cannot be saved raises an error at construction, not in
the 900th step.
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
    """A part with its own state, such as a KL controller. The state must be plain JSON."""

    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any], /) -> None: ...


class TrainState:
    """Model, optimizer and counters of one run. `extras` are other parts whose state is saved too."""

    def __init__(self, model: nn.Module, optimizer: AdamW, extras: Mapping[str, Stateful] | None = None) -> None:
        self.model, self.optimizer, self.extras = model, optimizer, dict(extras or {})
        self.step = 0  # optimizer steps taken or refused
        self.cursor = 0  # sequences used, all processes together
        self.tokens_seen = 0  # items with a loss: tokens with a label, or pairs of answers
        self.skipped_steps = 0  # total refused updates
        self.consecutive_skips = 0
        self.recent_losses: list[float] = []  # of accepted steps, for detecting spikes
        self.unlogged_loss = 0.0  # sum of the losses since the last row of the metrics
        self.unlogged_items = 0  # items of that sum
        for name, part in self.extras.items():
            _require_plain(name, part.state_dict())

    def tensors(self) -> dict[str, Tensor]:
        """The live tensors, to be read or overwritten in place."""
        tensors: dict[str, Tensor] = {}
        for name, weight in self.optimizer.named_weights():
            tensors[f"weights/{name}"] = weight.detach()
            tensors |= {f"optimizer/{name}/{key}": value for key, value in self.optimizer.state[weight].items()}
        return tensors

    def values(self) -> dict[str, Any]:
        """Counters, recent losses and extras, as JSON."""
        counters = {name: getattr(self, name) for name in _COUNTERS}
        return counters | {"extras": {name: part.state_dict() for name, part in self.extras.items()}}

    def load_values(self, values: dict[str, Any]) -> None:
        """Restore the `values()` of an earlier process."""
        values = _LATER_COUNTERS | values
        if values.keys() != self.values().keys() or values["extras"].keys() != self.extras.keys():
            found, own = [*values, *values.get("extras", ())], [*self.values(), *self.extras]
            raise CheckpointError(tr("the checkpoint has {found}, but this run expects {own}", found=found, own=own))
        for name in _COUNTERS:
            setattr(self, name, values[name])
        for name, part in self.extras.items():
            part.load_state_dict(values["extras"][name])


_LATER_COUNTERS: dict[str, Any] = {"unlogged_loss": 0.0, "unlogged_items": 0}  # older checkpoints do not have these
_COUNTERS = ("step", "cursor", "tokens_seen", "skipped_steps", "consecutive_skips", "recent_losses", *_LATER_COUNTERS)


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
    """Restore every global random generator to a `rng_state()`."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    np.random.set_state(tuple(state["numpy"]))
    torch.set_rng_state(_decode(state["torch"]))
    if state["cuda"]:
        torch.cuda.set_rng_state_all([_decode(text) for text in state["cuda"]])


@contextmanager
def preserved_rng() -> Iterator[None]:
    """Restore all random generators after the block, so that it does not change the training."""
    before = rng_state()
    try:
        yield
    finally:
        set_rng_state(before)


def _encode(state: Tensor) -> str:
    return base64.b64encode(state.numpy().tobytes()).decode("ascii")


def _decode(text: str) -> Tensor:
    return torch.frombuffer(bytearray(base64.b64decode(text)), dtype=torch.uint8)
