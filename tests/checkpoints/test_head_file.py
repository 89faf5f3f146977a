"""Head files: round trips over any backbone, loading without the head, and damaged files."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.head_file import CONFIG, TENSORS, load_with_head, read_head, write_head
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model
from qianwen.model.config import QwenConfig
from qianwen.model.heads import QwenWithHead, ScalarHead
from qianwen.model.linears.lora import LoraConfig, adapted, attach
from qianwen.model.linears.nf4 import Nf4Linear
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.files import atomic_folder

from ..engine.conftest import byte_tokenizer

SHAPE = QwenConfig(
    vocab_size=272, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
IDS = torch.arange(12).reshape(1, 12)
LORA = LoraConfig(rank=4, alpha=8)


def written(folder: Path, seed: int = 0) -> QwenWithHead:
    """A reward model, which is also written to `folder`."""
    model = QwenWithHead(Qwen(SHAPE).init_weights(seed), ScalarHead(64, seed=seed + 1)).eval()
    nn.init.normal_(model.head.bias)
    with atomic_folder(folder) as temporary:
        write_folder(model.backbone, byte_tokenizer(), temporary, chat=False)
        write_head(model.head, temporary)
    return model


def test_there_and_back(tmp_path: Path) -> None:
    model = written(tmp_path / "m")
    again, loaded = load_with_head(tmp_path / "m", dtype=torch.float32)
    assert torch.equal(again(IDS), model(IDS)) and not again.training
    assert again.backbone is loaded.model and loaded.tokenizer.vocab_size == byte_tokenizer().vocab_size
    assert json.loads((tmp_path / "m" / CONFIG).read_text()) == {"kind": "scalar", "hidden_size": 64}


def test_the_language_model_loads_without_the_head(tmp_path: Path) -> None:
    model = written(tmp_path / "m")
    loaded = load_model(tmp_path / "m", dtype=torch.float32).model
    assert torch.equal(loaded.logits(loaded(IDS)), model.backbone.logits(model.backbone(IDS)))


def test_an_adapter_and_a_head_over_a_base(tmp_path: Path) -> None:
    written(tmp_path / "base")
    backbone = attach(load_model(tmp_path / "base", dtype=torch.float32).model, LORA)
    for _, lora in adapted(backbone):
        nn.init.normal_(lora.lora_B, std=0.1)
    model = QwenWithHead(backbone, ScalarHead(64, seed=5)).eval()
    with atomic_folder(tmp_path / "reward") as folder:
        write_adapter(backbone, folder, LORA, str(tmp_path / "base"))
        write_head(model.head, folder)
    again, _ = load_with_head(tmp_path / "reward", dtype=torch.float32)
    assert torch.equal(again(IDS), model(IDS))
    assert torch.equal(again.head.weight, model.head.weight), "the head beside the adapter, not the base's"


@pytest.mark.parametrize(("bits", "kind"), [("nf4", Nf4Linear), (8, PackedLinear)])
def test_a_head_over_a_quantised_base(tmp_path: Path, bits, kind: type, monkeypatch) -> None:
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    model = written(tmp_path / "m")
    again, _ = load_with_head(tmp_path / "m", bits=bits)
    assert isinstance(again.backbone.model.layers[0].mlp.up_proj, kind)
    assert again.head.weight.dtype == torch.float32 and torch.equal(again.head.weight, model.head.weight)
    error = (again(IDS) - model(IDS)).norm() / (model(IDS) - model(IDS).mean()).norm()
    assert 0 < error < (0.3 if bits == "nf4" else 0.05)


def test_a_folder_without_a_head_is_an_error(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "m") as folder:
        write_folder(Qwen(SHAPE).init_weights(0), byte_tokenizer(), folder, chat=False)
    with pytest.raises(
        CheckpointError, match="there is no head.json, so this is not a reward or value model; give the"
    ):
        load_with_head(tmp_path / "m")


def test_damaged_heads_are_refused(tmp_path: Path) -> None:
    write_head(ScalarHead(64), tmp_path)
    assert torch.equal(read_head(tmp_path, 64).weight, ScalarHead(64).weight)
    with pytest.raises(
        CheckpointError, match="head has hidden size 64, the network has 128: use both from the same run"
    ):
        read_head(tmp_path, 128)

    tensors = load_file(tmp_path / TENSORS)
    save_file(tensors | {"weight": torch.zeros(1, 32)}, tmp_path / TENSORS)
    with pytest.raises(CheckpointError, match=r"'weight': \(1, 32\).* needs .*\(1, 64\).*: save the head again"):
        read_head(tmp_path, 64)
    save_file({"weight": tensors["weight"]}, tmp_path / TENSORS)
    with pytest.raises(CheckpointError, match="save the head again"):
        read_head(tmp_path, 64)
    (tmp_path / TENSORS).unlink()
    with pytest.raises(CheckpointError, match="head.safetensors is missing; fetch the rest"):
        read_head(tmp_path, 64)

    (tmp_path / CONFIG).write_text(json.dumps({"kind": "mixture", "hidden_size": 64}))
    with pytest.raises(CheckpointError, match="kind 'mixture' is not supported, only 'scalar'"):
        read_head(tmp_path, 64)
    (tmp_path / CONFIG).write_text("[")
    with pytest.raises(CheckpointError, match="head.json"):
        read_head(tmp_path, 64)
