"""Weight folders as other tools write them: other prefixes, no head, no index, another file name."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qianwen.checkpoints.hf_weights import load_weights, save_weights, stored_dtype
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError

TIED = QwenConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=16, qkv_bias=False, qk_norm=True, tie_word_embeddings=True,
)  # fmt: skip
UNTIED = replace(TIED, tie_word_embeddings=False)
IDS = torch.arange(12)[None]


def save(folder: Path, config: QwenConfig, prefix: str = "model.", *, head: bool = True) -> Qwen:
    """A folder of Qwen3 whose tensors begin with `prefix` in place of `model.`; the head stands outside it."""
    model = Qwen(config).init_weights(4).eval()
    save_weights(model, folder)
    for file in folder.glob("*.json"):
        if "files" in json.loads(file.read_text()):
            file.unlink()
    tensors = load_file(folder / "model.safetensors")
    outer = prefix.removesuffix("model.")
    renamed = {
        name.replace("model.", prefix, 1) if "lm_head" not in name else outer + name: t for name, t in tensors.items()
    }
    save_file({n: t for n, t in renamed.items() if head or "lm_head" not in n}, folder / "model.safetensors")
    return model


@pytest.mark.parametrize(
    "prefix",
    ["model.", "", "language_model.model.", "_orig_mod.model.", "module.model.", "base_model.model.model.", "encoder."],
)
@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_names_with_any_prefix(tmp_path: Path, prefix: str, config: QwenConfig) -> None:
    model = save(tmp_path / "m", config, prefix)
    again = load_weights(tmp_path / "m")
    assert torch.equal(again.logits(again(IDS)), model.logits(model(IDS)))


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_an_embedding_model_without_head(tmp_path: Path, config: QwenConfig, capsys: pytest.CaptureFixture) -> None:
    model = save(tmp_path / "m", config, "", head=False)
    again = load_weights(tmp_path / "m")
    assert torch.equal(again(IDS), model(IDS))
    assert ("embedding model" in capsys.readouterr().err) == (not config.tie_word_embeddings)


def test_a_language_model_without_its_head_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "m", UNTIED, head=False)
    with pytest.raises(CheckpointError, match="lm_head.weight .*is missing"):
        load_weights(tmp_path / "m")


def test_a_copy_of_the_tied_weight_under_any_prefix_is_ignored(tmp_path: Path) -> None:
    model = save(tmp_path / "m", TIED, "language_model.model.")
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    save_file(tensors | {"language_model.lm_head.weight": torch.zeros(96, 32)}, tmp_path / "m" / "model.safetensors")
    assert torch.equal(load_weights(tmp_path / "m")(IDS), model(IDS))


@pytest.mark.parametrize(
    "name", ["gptq_model-4bit-128g.safetensors", "weights.safetensors", "pytorch_model.safetensors"]
)
def test_one_file_of_another_name(tmp_path: Path, name: str) -> None:
    model = save(tmp_path / "m", TIED)
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / name)
    assert torch.equal(load_weights(tmp_path / "m")(IDS), model(IDS))
    assert stored_dtype(tmp_path / "m") == torch.float32


@pytest.mark.parametrize("count", [2, 3])
def test_shards_without_their_index(tmp_path: Path, count: int) -> None:
    model = save(tmp_path / "m", TIED)
    file = tmp_path / "m" / "model.safetensors"
    tensors = list(load_file(file).items())
    file.unlink()
    for number in range(count):
        part = dict(tensors[number::count])
        save_file(part, tmp_path / "m" / f"model-{number + 1:05}-of-{count:05}.safetensors")
    assert torch.equal(load_weights(tmp_path / "m")(IDS), model(IDS))
    (tmp_path / "m" / f"model-00001-of-{count:05}.safetensors").unlink()
    with pytest.raises(CheckpointError, match="model.safetensors is missing"):
        load_weights(tmp_path / "m")


def test_several_files_that_are_no_shards_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "m", TIED)
    file = tmp_path / "m" / "model.safetensors"
    (tmp_path / "m" / "a.safetensors").write_bytes(file.read_bytes())
    file.rename(tmp_path / "m" / "b.safetensors")
    with pytest.raises(CheckpointError, match="model.safetensors is missing"):
        load_weights(tmp_path / "m")
