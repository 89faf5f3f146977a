"""TrainState: complete, exact, and picky when it is made."""

import json
import random

import numpy as np
import pytest
import torch

from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.state import TrainState, preserved_rng, rng_state, set_rng_state


class Controller:
    def __init__(self, **state: object) -> None:
        self.state = state

    def state_dict(self) -> dict:
        return self.state

    def load_state_dict(self, state: dict) -> None:
        self.state = state


def test_values_survive_json_exactly(tiny):
    state = tiny.new_state()
    state = TrainState(state.model, state.optimizer, {"kl": Controller(coef=0.1 + 0.2)})
    state.step, state.recent_losses = 7, [1 / 3, 2 / 3]
    values = json.loads(json.dumps(state.values()))
    other = TrainState(state.model, state.optimizer, {"kl": Controller(coef=0.0)})
    other.load_values(values)
    assert (other.step, other.recent_losses) == (7, [1 / 3, 2 / 3])
    assert other.extras["kl"].state == {"coef": 0.30000000000000004}


@pytest.mark.parametrize("value", [torch.ones(2), {1: 2}, (1, 2), object(), float("nan")])
def test_what_cannot_be_saved_fails_at_construction(tiny, value):
    state = tiny.new_state()
    with pytest.raises(ConfigError, match="window cannot be saved"):
        TrainState(state.model, state.optimizer, {"window": Controller(value=value)})


def test_another_runs_values_are_refused(tiny):
    state = tiny.new_state()
    with pytest.raises(CheckpointError, match="kl"):
        state.load_values(state.values() | {"extras": {"kl": {}}})


def test_tensors_are_all_there_before_the_first_step(tiny):
    state = tiny.new_state()
    before = set(state.tensors())
    tiny.train(state, steps=1)
    assert set(state.tensors()) == before
    assert len(before) == 4 * len(list(state.model.named_parameters()))


def test_frozen_weights_are_not_state(tiny):
    state = tiny.new_state()
    state.model.qwen.model.requires_grad_(False)
    state = TrainState(state.model, AdamW(state.model, AdamWConfig()))
    assert {name.split("/")[1] for name in state.tensors()} == {"qwen.lm_head.weight"}


def test_random_states_come_back():
    def draw():
        return (
            random.random(),
            np.random.rand(),
            torch.rand(3).tolist(),
            torch.nn.functional.dropout(torch.ones(9)).tolist(),
        )

    saved = json.loads(json.dumps(rng_state()))
    first = draw()
    assert draw() != first
    set_rng_state(saved)
    assert draw() == first
    set_rng_state(saved)
    with preserved_rng():
        draw()
    assert draw() == first


def test_older_checkpoints_without_the_sums_of_the_log_load(tiny) -> None:
    state = tiny.new_state()
    values = {name: value for name, value in state.values().items() if not name.startswith("unlogged")}
    state.load_values(json.loads(json.dumps(values)))
    assert (state.unlogged_loss, state.unlogged_items) == (0.0, 0)
