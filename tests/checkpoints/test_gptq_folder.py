"""Reading GPTQ folders of other programs, and errors for unsupported ones."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qianwen.checkpoints.gptq_folder import as_floats, gptq_model, is_gptq, read_format
from qianwen.checkpoints.hf_weights import save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_layout import to_gptq
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig, nearest
from qianwen.runtime.errors import CheckpointError

CONFIG = QwenConfig(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4)
QUANTIZATION = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
MODULES = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")

Change = Callable[[dict], None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder as in the first release: fused c_attn, zero biases everywhere, no manifest."""
    save_weights(Qwen(CONFIG).init_weights(seed=1), tmp_path / "m", "qwen")
    (tmp_path / "m" / "manifest.json").unlink(missing_ok=True)
    for path in (tmp_path / "m").glob("*.json"):
        if "files" in json.loads(path.read_text()):
            path.unlink()
    tensors = load_file(tmp_path / "m" / "model.safetensors")
    for module in MODULES:
        name = f"transformer.h.0.{module}."
        weight = tensors.pop(name + "weight")
        tensors |= {name + part: value for part, value in to_gptq(nearest(weight, GptqConfig(group_size=32))).items()}
        tensors.setdefault(name + "bias", torch.zeros(len(weight)))
    save_file(tensors, tmp_path / "m" / "model.safetensors")
    set_config(tmp_path / "m", QUANTIZATION)
    return tmp_path / "m"


def set_config(folder: Path, quantization: object) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))


def change(folder: Path, edit: Change) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_the_layout_of_the_first_release_is_read(folder: Path) -> None:
    assert is_gptq(folder) and read_format(folder) == (4, 32, 1, True, True)
    model = gptq_model(folder, dtype=torch.float32)
    original = Qwen(CONFIG).init_weights(seed=1)
    assert model.model.layers[0].self_attn.o_proj.bias is None
    floats = as_floats(model, torch.float32)
    for name, parameter in original.named_parameters():
        found = floats.get_parameter(name)
        expected = nearest(parameter, GptqConfig(group_size=32)).dequantize() if "_proj.weight" in name else parameter
        torch.testing.assert_close(found, expected, atol=2e-4, rtol=1e-3)


def test_an_extra_bias_is_kept_unless_it_is_zero(folder: Path) -> None:
    change(folder, lambda tensors: tensors["transformer.h.0.mlp.w1.bias"].fill_(0.5))
    assert (gptq_model(folder, dtype=torch.float32).model.layers[0].mlp.up_proj.bias == 0.5).all()


def test_zeros_of_version_2(folder: Path) -> None:
    before = gptq_model(folder, dtype=torch.float32).model.layers[0].mlp.up_proj.dequantize()

    def add_one(tensors: dict) -> None:
        for name in tensors:
            if name.endswith("qzeros"):
                tensors[name] += 0x11111111

    change(folder, add_one)
    set_config(folder, QUANTIZATION | {"checkpoint_format": "gptq_v2"})
    assert torch.equal(gptq_model(folder, dtype=torch.float32).model.layers[0].mlp.up_proj.dequantize(), before)


def drop(name: str) -> Change:
    return lambda tensors: tensors.__delitem__(name)


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (drop("transformer.h.0.mlp.w1.scales"), "w1.scales of shape .* is missing"),
        (drop("transformer.h.0.attn.c_attn.qweight"), "c_attn.weight of shape .* is missing"),
        (lambda t: t.update({"transformer.h.0.mlp.w1.qweight": torch.zeros(3, 3, dtype=torch.int32)}), "has shape"),
        (lambda t: t["transformer.h.0.mlp.w1.g_idx"].fill_(9), "has the index of a group that does not exist"),
        (lambda t: t["transformer.h.0.mlp.w1.g_idx"].fill_(-1), "has the index of a group that does not exist"),
        (lambda t: t.update({"transformer.h.7.stray": torch.zeros(2)}), "the network has no tensor"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(folder: Path, edit: Change, complaint: str) -> None:
    change(folder, edit)
    with pytest.raises(CheckpointError, match=complaint):
        gptq_model(folder, dtype=torch.float32)


@pytest.mark.parametrize(
    "quantization",
    [
        {"quant_method": "awq", "bits": 4},
        QUANTIZATION | {"bits": 3},
        QUANTIZATION | {"checkpoint_format": "marlin"},
        QUANTIZATION | {"dynamic": {"lm_head": {}}},
        QUANTIZATION | {"group_size": 0},
        QUANTIZATION | {"group_size": "128"},
        "gptq",
    ],
)
def test_unsupported_formats_are_refused(folder: Path, quantization: object) -> None:
    set_config(folder, quantization)
    with pytest.raises(CheckpointError):
        gptq_model(folder, dtype=torch.float32)
