"""Several adapters in one forward: each token uses its own, and the base model does not change."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from qianwen.checkpoints.adapter_folder import load_adapter, read_adapter, write_adapter
from qianwen.model.config import QwenConfig
from qianwen.model.linears.adapter_bank import AdapterBank
from qianwen.model.linears.lora import LoraConfig, LoraLinear, attach
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError

SHAPE = QwenConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
IDS = torch.arange(12).reshape(1, 12)


def fresh() -> Qwen:
    return Qwen(SHAPE).init_weights(0).eval()


def write(folder: Path, seed: int, **fields) -> Path:
    folder.mkdir()
    lora = LoraConfig(rank=4, alpha=8, **fields)
    model = attach(fresh(), lora)
    torch.manual_seed(seed)
    for weight in model.parameters():
        if weight.requires_grad:
            nn.init.normal_(weight, std=0.2)
    write_adapter(model, folder, lora, "base")
    return folder


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("adapters")
    return {"a": write(home / "a", 1), "b": write(home / "b", 2, target_modules=("q_proj", "down_proj"))}


@pytest.mark.parametrize("is_invariant", [False, True])
def test_every_token_uses_its_own_adapter(folders, is_invariant):
    """Four documents in one row, which do not see each other, with adapters a, b, none, a."""
    model = fresh()
    bank = AdapterBank(model, is_invariant=is_invariant)
    for name, folder in folders.items():
        bank.add(name, read_adapter(model, folder))
    order, counts = ["a", "b", "", "a"], [3, 4, 2, 3]
    positions = torch.cat([torch.arange(count) for count in counts]).unsqueeze(0)
    with torch.inference_mode(), bank.step(order, counts):
        together = model(IDS, positions)[0].split(counts)
    for name, ids, states in zip(order, IDS[0].split(counts), together, strict=True):
        alone = load_adapter(fresh(), folders[name]) if name else fresh()
        torch.testing.assert_close(states, alone(ids.unsqueeze(0))[0], atol=1e-5, rtol=1e-5)
    assert bank.names == ["a", "b"]


def test_tokens_without_adapter_do_not_change_and_only_changed_linears_are_wrapped(folders):
    model = fresh()
    bank = AdapterBank(model)
    bank.add("b", read_adapter(model, folders["b"]))
    wrapped = {name.rpartition(".")[2] for name, module in model.named_modules() if isinstance(module, LoraLinear)}
    assert wrapped == {"q_proj", "down_proj"}
    with bank.step(["b"], [12]):
        assert bank.needs_modules and not torch.equal(model(IDS), fresh()(IDS))
    with bank.step([""], [12]):
        assert not bank.needs_modules and torch.equal(model(IDS), fresh()(IDS))


def test_two_banks_of_one_network_are_independent(folders):
    """As in two engines, each with its own adapter "x"; a forward outside their steps has neither."""
    model = fresh()
    banks = {name: AdapterBank(model) for name in folders}
    for name, bank in banks.items():
        bank.add("x", read_adapter(model, folders[name]))
    for name, bank in banks.items():
        with torch.inference_mode(), bank.step(["x"], [12]):
            states = model(IDS)
        torch.testing.assert_close(states, load_adapter(fresh(), folders[name])(IDS), atol=1e-5, rtol=1e-5)
    assert torch.equal(model(IDS), fresh()(IDS))


def test_an_adapter_beside_a_trained_one(folders):
    model = load_adapter(fresh(), folders["a"])
    own = model(IDS)
    bank = AdapterBank(model)
    bank.add("b", read_adapter(model, folders["b"]))
    with torch.inference_mode(), bank.step(["b", ""], [6, 6]):
        both = model(IDS, torch.arange(6).repeat(1, 2))[0]
    assert not torch.equal(both[:6], own[0, :6])
    assert torch.equal(model(IDS), own)


def test_adapters_of_swapped_weights_are_refused(folders):
    model = fresh()
    bank = AdapterBank(model)
    bank.add("b", read_adapter(model, folders["b"]))
    model.model = fresh().model
    with pytest.raises(ConfigError, match="the weights were swapped .* after adapters b"), bank.step(["b"], [12]):
        pass
    with bank.step([""], [12]):
        assert torch.equal(model(IDS), fresh()(IDS))


def test_an_adapter_with_other_changes_is_refused_and_changes_nothing(tmp_path):
    model = fresh()
    bank = AdapterBank(model)
    with pytest.raises(CheckpointError, match="embed_tokens"):
        bank.add("whole", read_adapter(model, write(tmp_path / "whole", 3, modules_to_save=("embed_tokens",))))
    assert not bank.names and not any(isinstance(module, LoraLinear) for module in model.modules())


def test_an_adapter_of_another_network_is_refused(folders):
    model = Qwen(replace(SHAPE, intermediate_size=64))
    with pytest.raises(CheckpointError, match="does not fit this network"):
        read_adapter(model, folders["a"])
