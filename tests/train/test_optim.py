"""AdamW: torch's own numbers, which weights decay, and fp32 masters behind bf16 weights."""

import torch
from torch import nn

from qianwen.train.optim import AdamW, AdamWConfig


def test_matches_torch_and_spares_vectors_from_decay():
    torch.manual_seed(1)
    ours, plain = nn.Linear(4, 3), nn.Linear(4, 3)
    plain.load_state_dict(ours.state_dict())
    config = AdamWConfig(betas=(0.8, 0.9), eps=1e-6, weight_decay=0.3)
    optimizer = AdamW(ours, config)
    groups = [{"params": [plain.weight], "weight_decay": 0.3}, {"params": [plain.bias], "weight_decay": 0.0}]
    reference = torch.optim.AdamW(groups, lr=1e-2, betas=(0.8, 0.9), eps=1e-6, fused=False, foreach=False)
    for _ in range(5):
        x = torch.randn(7, 4)
        for model, opt in ((ours, optimizer), (plain, reference)):
            for group in opt.param_groups:
                group["lr"] = 1e-2
            model(x).square().sum().backward()
            opt.step()
            opt.zero_grad()
    torch.testing.assert_close(ours.weight, plain.weight)
    torch.testing.assert_close(ours.bias, plain.bias)


def test_masters_keep_what_bfloat16_would_lose():
    torch.manual_seed(1)
    model = nn.Linear(64, 64, bias=False)
    start = model.weight.detach().clone()
    optimizer = AdamW(model, AdamWConfig(weight_decay=0.0), compute_dtype=torch.bfloat16)
    assert model.weight.dtype == torch.bfloat16
    for group in optimizer.param_groups:
        group["lr"] = 1e-6
    for _ in range(3):
        model(torch.ones(1, 64, dtype=torch.bfloat16)).sum().backward()
        assert model.weight.grad is None  # it has moved to the master
        optimizer.step()
        optimizer.zero_grad()
    ((name, master),) = optimizer.named_weights()
    assert (name, master.dtype) == ("weight", torch.float32)
    torch.testing.assert_close(master, start - 3e-6, rtol=0, atol=1e-7)
    assert torch.equal(model.weight, master.bfloat16())


def test_micro_batches_add_up_in_float32():
    model = nn.Linear(1, 1, bias=False)
    optimizer = AdamW(model, AdamWConfig(), compute_dtype=torch.bfloat16)
    for value in (256.0, 1.0, 1.0):  # in bfloat16, 256 + 1 = 256
        model(torch.full((1, 1), value, dtype=torch.bfloat16)).sum().backward()
    ((_, master),) = optimizer.named_weights()
    assert master.grad.item() == 258.0


def test_frozen_weights_are_not_its_business():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[0].requires_grad_(False)
    assert [name for name, _ in AdamW(model, AdamWConfig()).named_weights()] == ["1.weight", "1.bias"]


def test_a_bfloat16_model_gets_masters_without_being_asked():
    model = nn.Linear(4, 4).bfloat16()
    optimizer = AdamW(model, AdamWConfig())
    assert {master.dtype for _, master in optimizer.named_weights()} == {torch.float32}
    assert model.weight.dtype == torch.bfloat16


def test_gradients_go_to_the_newest_optimizer_alone():
    model = nn.Linear(4, 4, bias=False)
    AdamW(model, AdamWConfig(), compute_dtype=torch.bfloat16)
    newest = AdamW(model, AdamWConfig(), compute_dtype=torch.bfloat16)
    model(torch.ones(1, 4, dtype=torch.bfloat16)).sum().backward()
    ((_, master),) = newest.named_weights()
    assert torch.equal(master.grad, torch.ones(4, 4))
