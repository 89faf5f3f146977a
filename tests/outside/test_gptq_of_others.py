"""GPTQ folders of other tools: zeros of symmetric codes, tensors and configs that follow from the rest."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from qianwen.checkpoints.gptq_folder import as_floats, as_packed, gptq_model, is_gptq, read_format
from qianwen.checkpoints.hf_weights import save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_layout import _packed, to_gptq
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig, nearest
from qianwen.runtime.errors import CheckpointError

CONFIG = QwenConfig(
    vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=1, num_attention_heads=4,
    num_key_value_heads=2,
)  # fmt: skip
IDS = torch.arange(10)[None]
Tensors = dict[str, Tensor]


def settings(**fields: object) -> dict:
    plain = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False} | fields
    return {name: value for name, value in plain.items() if value != "absent"}


def save(folder: Path, quantization: dict, edit: Callable[[Tensors], None] = lambda tensors: None) -> Qwen:
    """A symmetric folder with these settings; returns the network that it stands for."""
    model = Qwen(CONFIG).init_weights(seed=1).eval()
    save_weights(model, folder)
    (folder / "manifest.json").unlink(missing_ok=True)
    tensors, bits = load_file(folder / "model.safetensors"), quantization["bits"]
    size = quantization.get("group_size", 32)
    for name in [name for name in tensors if name.endswith("_proj.weight")]:
        coded = nearest(tensors.pop(name), GptqConfig(bits=bits, group_size=size))
        model.get_parameter(name).data = coded.dequantize()
        tensors |= {name.removesuffix("weight") + part: value for part, value in to_gptq(coded).items()}
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": quantization}))
    return model


def stored_zero(value: int, bits: int) -> Callable[[Tensors], None]:
    """Store this number as the zero of every group."""

    def edit(tensors: Tensors) -> None:
        for name, words in tensors.items():
            if name.endswith("qzeros"):
                rows, columns = words.shape
                codes = torch.full((rows, columns * 32 // bits), value, dtype=torch.uint8)
                tensors[name] = _packed(codes, bits)

    return edit


def without(part: str) -> Callable[[Tensors], None]:
    def edit(tensors: Tensors) -> None:
        for name in [name for name in tensors if name.endswith(part)]:
            del tensors[name]

    return edit


def check(folder: Path, expected: Qwen) -> None:
    logits = expected.logits(expected(IDS))
    for model in (
        as_floats(gptq_model(folder, dtype=torch.float32), torch.float32),
        as_packed(gptq_model(folder, dtype=torch.float32)),
    ):
        assert (model.logits(model(IDS)) - logits).norm() / logits.norm() < 0.03


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("version", ["absent", None, "gptq", "gptq_v2"])
@pytest.mark.parametrize("sym", [True, "absent", None])
@pytest.mark.parametrize("off_by", [0, 1])
def test_the_zero_of_symmetric_codes_is_the_middle(
    tmp_path: Path, bits: int, version: object, sym: object, off_by: int
) -> None:
    quantization = settings(bits=bits, checkpoint_format=version, sym=sym)
    check(tmp_path, save(tmp_path, quantization, stored_zero((1 << (bits - 1)) - off_by, bits)))


@pytest.mark.parametrize("value", [0, 3, 15])
def test_symmetric_codes_with_any_stored_zero(tmp_path: Path, value: int) -> None:
    check(tmp_path, save(tmp_path, settings(), stored_zero(value, 4)))


@pytest.mark.parametrize(("version", "offset"), [("gptq", 1), ("gptq_v2", 0)])
def test_zeros_of_asymmetric_codes_are_read_as_stored(tmp_path: Path, version: str, offset: int) -> None:
    save(tmp_path, settings(sym=False, checkpoint_format=version), stored_zero(5, 4))
    zeros = gptq_model(tmp_path, dtype=torch.float32).get_submodule("model.layers.0.mlp.up_proj").zeros
    assert (zeros == 5 + offset).all()


@pytest.mark.parametrize("group_size", [32, 64, -1])
@pytest.mark.parametrize("part", ["g_idx", "qzeros"])
def test_what_follows_from_the_rest_is_not_needed(tmp_path: Path, part: str, group_size: int) -> None:
    check(tmp_path, save(tmp_path, settings(group_size=group_size), without(part)))


def test_one_group_needs_no_index_even_with_desc_act(tmp_path: Path) -> None:
    check(tmp_path, save(tmp_path, settings(group_size=-1, desc_act=True), without("g_idx")))


@pytest.mark.parametrize(
    ("part", "fields"),
    [("g_idx", {"desc_act": True}), ("qzeros", {"sym": False}), ("qzeros", {"sym": None}), ("scales", {})],
)
def test_what_does_not_follow_is_missed_by_name(tmp_path: Path, part: str, fields: dict) -> None:
    save(tmp_path, settings(**fields), without(part))
    with pytest.raises((CheckpointError, KeyError), match=part):
        gptq_model(tmp_path, dtype=torch.float32)


def test_settings_in_the_file_of_older_tools(tmp_path: Path) -> None:
    expected = save(tmp_path, settings())
    config = json.loads((tmp_path / "config.json").read_text())
    del config["quantization_config"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert not is_gptq(tmp_path)
    older = {
        "bits": 4,
        "group_size": 32,
        "damp_percent": 0.01,
        "desc_act": False,
        "sym": True,
        "model_file_base_name": "m",
    }
    (tmp_path / "quantize_config.json").write_text(json.dumps(older))
    (tmp_path / "model.safetensors").rename(tmp_path / "m.safetensors")
    assert is_gptq(tmp_path) and read_format(tmp_path).bits == 4
    check(tmp_path, expected)


def test_the_settings_of_the_config_win_over_a_second_file(tmp_path: Path) -> None:
    expected = save(tmp_path, settings())
    (tmp_path / "quantize_config.json").write_text(json.dumps({"bits": 8, "group_size": 128}))
    check(tmp_path, expected)


@pytest.mark.parametrize(
    "fields",
    [
        {"quant_method": "awq"},
        {"quant_method": "auto-round"},
        {"checkpoint_format": "marlin"},
        {"pack_dtype": "int64"},
        {"bits": 3},
        {"bits": "4"},
        {"dynamic": {"-:.*": {}}},
    ],
    ids=str,
)
def test_other_formats_are_refused_by_name(tmp_path: Path, fields: dict) -> None:
    save(tmp_path, settings())
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings() | fields}))
    with pytest.raises(CheckpointError, match=next(iter(fields))):
        read_format(tmp_path)
