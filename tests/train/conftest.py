"""A network small enough for hundreds of steps, with dropout so that a resume must restore random states too."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from qianwen.model import Qwen, QwenConfig
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.state import TrainState

SHAPE = QwenConfig(
    vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, train_len=64
)


class Tiny(nn.Module):
    """A `Qwen` whose embeddings pass through dropout."""

    def __init__(self, dropout: float = 0.1) -> None:
        super().__init__()
        self.qwen = Qwen(SHAPE).init_weights(0)
        self.dropout = nn.Dropout(dropout)
        self.qwen.model.embed_tokens.register_forward_hook(lambda module, args, out: self.dropout(out))

    def forward(self, ids: Tensor) -> Tensor:
        return self.qwen.logits(self.qwen(ids))


def loss_fn(model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    logits, labels = model(batch["input_ids"]), batch["labels"]
    loss = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=-100, reduction="sum")
    valid = labels != -100
    return loss, valid.sum(), {"accuracy": ((logits.argmax(-1) == labels) & valid).sum()}


def batches(size: int, length: int = 12) -> Callable[[int], dict[str, Tensor]]:
    """Sequences that count upward from a random start, of lengths from 2 to `length`: number i is always the same."""

    def sequence(number: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(number)
        start, used = (int(torch.randint(high, (), generator=generator)) for high in (64, length - 1))
        ids = (start + torch.arange(length + 1)) % 64
        labels = ids[1:].clone()
        labels[used + 2 :] = -100
        return ids[:-1], labels

    def batch(cursor: int) -> dict[str, Tensor]:
        ids, labels = zip(*(sequence(cursor + row) for row in range(size)), strict=True)
        return {"input_ids": torch.stack(ids), "labels": torch.stack(labels)}

    return batch


def loop_config(**fields: object) -> LoopConfig:
    return LoopConfig(**({"steps": 20, "sequences_per_step": 8, "micro_batch_size": 4, "lr": 1e-3} | fields))


def new_state(dropout: float = 0.1, **options: object) -> TrainState:
    torch.manual_seed(0)
    model = Tiny(dropout)
    return TrainState(model, AdamW(model, AdamWConfig(), **options))


def snapshot(state: TrainState) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in state.tensors().items()}


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def train(
    state: TrainState, batch_of: Callable[[int], dict[str, Tensor]] | None = None, **fields: object
) -> list[dict]:
    """Run to the end and return the metrics of every step."""
    config, seen = loop_config(**fields), []
    run(state.model, loss_fn, batch_of or batches(config.micro_batch_size), config, state, [record(seen)])
    return seen


def record(seen: list[dict]) -> Callable[[TrainState, dict], None]:
    return lambda state, metrics: seen.append({"step": state.step} | metrics)


@pytest.fixture
def tiny() -> SimpleNamespace:
    """Everything above, since a test file cannot import another."""
    return SimpleNamespace(
        SHAPE=SHAPE,
        AdamWConfig=AdamWConfig,
        loss_fn=loss_fn,
        batches=batches,
        loop_config=loop_config,
        new_state=new_state,
        snapshot=snapshot,
        same=same,
        train=train,
        record=record,
    )
