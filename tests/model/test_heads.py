"""Scalar heads: over any backbone, with gradients to all trainable weights, trained in the loop."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qianwen.model.config import QwenConfig
from qianwen.model.heads import QwenWithHead, ScalarHead
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import linear_norms, pack_model
from qianwen.model.transformer import Qwen, replace_module
from qianwen.train.loop import LoopConfig, run
from qianwen.train.optim import AdamW, AdamWConfig
from qianwen.train.state import TrainState

SHAPE = QwenConfig(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4)
IDS = torch.arange(24).reshape(2, 12)
LORA = LoraConfig(rank=4, alpha=8, dropout=0.0)


def build(backbone: str = "floats") -> QwenWithHead:
    model = Qwen(SHAPE).init_weights(0)
    if backbone == "nf4":
        for name in [name for name, _ in linear_norms(model) if name != "lm_head"]:
            linear = model.get_submodule(name)
            replace_module(model, name, Nf4Linear.from_float(linear.weight, linear.bias))
    if backbone == "packed":
        pack_model(model, 8)
    if backbone != "floats":
        attach(model, LORA)
    return QwenWithHead(model, ScalarHead(SHAPE.hidden_size, seed=1))


def test_scores_are_the_head_of_the_hidden_states() -> None:
    model = build().eval()
    hidden = model.backbone(IDS)
    expected = hidden @ model.head.weight[0] + model.head.bias
    torch.testing.assert_close(model(IDS), expected)
    torch.testing.assert_close(model(IDS, at=torch.tensor([11, 23])), expected[:, -1])


def test_packed_documents_have_the_scores_of_single_ones() -> None:
    model = build().eval()
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    together = model(IDS[:1], positions, at=torch.tensor([4, 11]))
    alone = torch.stack([model(part)[0, -1] for part in IDS[:1].split([5, 7], dim=1)])
    torch.testing.assert_close(together, alone)


def test_scores_are_fp32_over_a_bf16_network() -> None:
    model = build().to(torch.bfloat16)
    assert model(IDS).dtype == torch.float32
    assert len(model(IDS).unique()) == IDS.numel(), "scores that bf16 could not tell apart"


def test_the_same_seed_draws_the_same_head() -> None:
    first, second, other = (ScalarHead(512, seed=seed).weight for seed in (3, 3, 4))
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert first.std().item() == pytest.approx(513**-0.5, rel=0.1)


@pytest.mark.parametrize("backbone", ["floats", "lora", "nf4", "packed"])
def test_gradients_reach_the_head_and_trainable_backbone_weights(backbone: str) -> None:
    model = build(backbone).train()
    for name, weight in model.named_parameters():
        if name.endswith("lora_B"):
            nn.init.normal_(weight, std=0.1)
    model(IDS).square().sum().backward()
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in trained.values())
    assert {"head.weight", "head.bias"} < trained.keys() and "backbone.lm_head.weight" not in trained
    kinds = {name.rpartition(".")[2] for name in trained.keys() - {"head.weight", "head.bias"}}
    assert kinds == ({"weight", "bias"} if backbone == "floats" else {"lora_A", "lora_B"})


@pytest.mark.parametrize("backbone", ["floats", "nf4"])
def test_a_reward_model_learns_eight_preferences(backbone: str) -> None:
    """log σ(reward of the chosen − reward of the rejected) over pairs that differ only in their last tokens."""
    model = build(backbone)
    generator = torch.Generator().manual_seed(0)
    pairs = torch.randint(96, (8, 2, 12), generator=generator)
    pairs[:, 1, :8] = pairs[:, 0, :8]

    def loss(model: QwenWithHead, batch: dict[str, Tensor]) -> tuple[Tensor, int, dict[str, Tensor]]:
        ids = batch["input_ids"].flatten(0, 1)
        ends = torch.arange(1, len(ids) + 1) * ids.size(1) - 1
        chosen, rejected = model(ids, at=ends).view(-1, 2).unbind(1)
        return -F.logsigmoid(chosen - rejected).sum(), len(chosen), {"accuracy": (chosen > rejected).sum()}

    config = LoopConfig(steps=40, sequences_per_step=8, micro_batch_size=4, lr=1e-2 if backbone == "nf4" else 3e-3)
    state = TrainState(model, AdamW(model, AdamWConfig()))
    seen: list[dict] = []

    def pairs_from(cursor: int) -> dict[str, Tensor]:
        return {"input_ids": pairs[cursor % 8 : cursor % 8 + 4]}

    run(model, loss, pairs_from, config, state, [lambda _, metrics: seen.append(dict(metrics))])
    assert seen[0]["loss"] > 0.5
    assert seen[-1]["loss"] < 0.05 and seen[-1]["accuracy"] == 1.0
