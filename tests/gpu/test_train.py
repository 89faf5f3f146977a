"""Training on a GPU: packed documents, the loop, and that it agrees with a CPU."""

import pytest
import torch

from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.parallel import ParallelConfig, parallelize
from qianwen.train.pretrain import next_token_loss
from qianwen.train.state import TrainState

pytestmark = pytest.mark.gpu


def batch(cursor: int, rows: int = 4, tokens: int = 96) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(cursor)
    ids = torch.randint(0, 16, (rows, tokens), generator=generator)
    positions = torch.cat([torch.arange(30), torch.arange(tokens - 30)]).expand(rows, -1)
    return {"input_ids": ids, "labels": ids.roll(-1, 1), "positions": positions}


def losses_of(model, steps: int, **parallel) -> list[float]:
    dtype = torch.float32
    if parallel:
        parallelize(model, model.model.layers, ParallelConfig(**parallel), dtype)
    state = TrainState(model, AdamW(model, AdamWConfig(), compute_dtype=dtype))
    seen: list[float] = []

    config = LoopConfig(steps=steps, sequences_per_step=4, micro_batch_size=4, lr=3e-3)
    run(
        model,
        next_token_loss,
        lambda cursor: batch(cursor % 8),
        config,
        state,
        [lambda _, metrics: seen.append(metrics["loss"])],
    )
    return seen


@pytest.mark.parametrize("fields", [{}, {"layer_windows": (0, 16, 0)}, {"num_key_value_heads": 4}])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_documents_give_the_states_and_gradients_of_a_cpu(device, make_model, fields, dtype):
    model, data = make_model(**fields, initializer_range=0.05), batch(0)
    results, direction = [], torch.randn(4, 96, 256)
    for where, type in ((torch.device("cpu"), torch.float32), (device, dtype)):
        model = model.to(where, type)
        states = model(data["input_ids"].to(where), data["positions"].to(where))
        (states.float() * direction.to(where)).sum().backward()
        results.append(
            (states.detach().float().cpu(), model.model.layers[0].self_attn.k_proj.weight.grad.float().cpu())
        )
        model.zero_grad()
    for expected, found in zip(*results, strict=True):
        assert (found - expected).norm() < (2e-3 if dtype == torch.float32 else 0.1) * expected.norm()


def test_the_loop_learns_the_same(device, make_model):
    expected = losses_of(make_model(), 12)
    found = losses_of(make_model().to(device), 12)
    again = losses_of(make_model().to(device), 12, checkpoint_activations=True)
    assert found[-1] < 0.8 * found[0]
    for a, b, c in zip(expected, found, again, strict=True):
        assert abs(a - b) < 2e-3 * a and abs(b - c) < 1e-3 * a
