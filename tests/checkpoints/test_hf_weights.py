"""Weight folders: round trips of every layout, and damaged folders."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from qianwen.checkpoints.hf_config import config_to_hf
from qianwen.checkpoints.hf_weights import load_weights, save_weights
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError

V1 = QwenConfig(
    vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=64, train_len=32, use_dynamic_ntk=True, use_logn_attn=True,
)  # fmt: skip
SHAPES = {
    "v1": V1,
    "qwen2": replace(V1, num_key_value_heads=2, tie_word_embeddings=True, use_dynamic_ntk=False, use_logn_attn=False),
    "qwen3": replace(V1, qkv_bias=False, qk_norm=True, num_key_value_heads=2, head_dim=16),
    "llama": replace(V1, qkv_bias=False, use_dynamic_ntk=False, use_logn_attn=False),
}
IDS = torch.arange(24).reshape(2, 12)


def fresh(config: QwenConfig = V1) -> Qwen:
    """Random weights, also for biases and norms, so that no two tensors are equal."""
    model = Qwen(config).eval()
    generator = torch.Generator().manual_seed(7)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    model.tie_weights()
    return model


def same(left: Qwen, right: Qwen) -> bool:
    ours, theirs = left.state_dict(), right.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_weights(fresh(), tmp_path / "m")
    (tmp_path / "m" / "manifest.json").unlink()  # so that a test may change what it wants
    return tmp_path / "m"


def rewrite(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")


# ---- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", SHAPES)
def test_a_folder_round_trip_is_exact(tmp_path: Path, family: str) -> None:
    model = fresh(SHAPES[family])
    save_weights(model, tmp_path / "m")
    again = load_weights(tmp_path / "m")
    assert again.config == model.config and same(again, model) and not again.training
    assert torch.equal(again.logits(again(IDS)), model.logits(model(IDS)))
    assert (again.lm_head.weight is again.model.embed_tokens.weight) == model.config.tie_word_embeddings


def test_the_saved_class_depends_on_the_features(tmp_path: Path) -> None:
    for family, config in SHAPES.items():
        save_weights(fresh(config), tmp_path / family)
    classes = [json.loads((tmp_path / family / "config.json").read_text())["architectures"] for family in SHAPES]
    assert classes == [["Qwen2ForCausalLM"], ["Qwen2ForCausalLM"], ["Qwen3ForCausalLM"], ["LlamaForCausalLM"]]


def test_v1_layout_round_trip(tmp_path: Path) -> None:
    model = fresh()
    save_weights(model, tmp_path / "v1", "qwen")
    tensors = load_file(tmp_path / "v1" / "model.safetensors")
    assert len(tensors) == 8 * 2 + 3
    attention, mlp = model.model.layers[1].self_attn, model.model.layers[1].mlp
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    assert torch.equal(tensors["transformer.h.1.attn.c_attn.weight"], torch.cat([part.weight for part in parts]))
    assert torch.equal(tensors["transformer.h.1.attn.c_attn.bias"], torch.cat([part.bias for part in parts]))
    assert torch.equal(tensors["transformer.h.1.mlp.w1.weight"], mlp.up_proj.weight)
    assert torch.equal(tensors["transformer.h.1.mlp.w2.weight"], mlp.gate_proj.weight)
    config = json.loads((tmp_path / "v1" / "config.json").read_text())
    assert config["architectures"] == ["QWenLMHeadModel"] and config["intermediate_size"] == 96
    again = load_weights(tmp_path / "v1")
    assert again.config == model.config and same(again, model)


def test_the_v1_layout_of_shared_heads_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        save_weights(fresh(SHAPES["qwen2"]), tmp_path / "v1", "qwen")
    assert not (tmp_path / "v1").exists()


def test_shards_and_their_index(tmp_path: Path) -> None:
    model = fresh()
    save_weights(model, tmp_path / "m", shard_bytes=20_000)
    index = json.loads((tmp_path / "m" / "model.safetensors.index.json").read_text())
    shards = sorted(path.name for path in (tmp_path / "m").glob("*.safetensors"))
    assert sorted(set(index["weight_map"].values())) == shards and len(shards) > 2
    assert shards[0] == f"model-00001-of-{len(shards):05}.safetensors"
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in model.state_dict().values())
    assert all(path.stat().st_size < 21_500 for path in (tmp_path / "m").glob("*.safetensors"))
    assert same(load_weights(tmp_path / "m"), model)


def test_data_types_are_converted(tmp_path: Path) -> None:
    model = fresh()
    save_weights(model, tmp_path / "m", dtype=torch.bfloat16)
    assert json.loads((tmp_path / "m" / "config.json").read_text())["torch_dtype"] == "bfloat16"
    again = load_weights(tmp_path / "m", dtype=torch.float16)
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float16}
    expected = model.lm_head.weight.bfloat16().half()
    assert torch.equal(again.lm_head.weight, expected)


def test_leftovers_and_a_copied_head_are_skipped(folder: Path, tmp_path: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert same(load_weights(folder), fresh())
    save_weights(fresh(), tmp_path / "v1", "qwen")
    (tmp_path / "v1" / "manifest.json").unlink()
    extra = {"transformer.rotary_emb.inv_freq": torch.ones(4), "transformer.h.0.attn.masked_bias": torch.ones(1)}
    rewrite(tmp_path / "v1", lambda tensors: tensors.update(extra))
    assert same(load_weights(tmp_path / "v1"), fresh())
    tied = fresh(SHAPES["qwen2"])
    save_weights(tied, tmp_path / "tied")
    (tmp_path / "tied" / "manifest.json").unlink()
    rewrite(tmp_path / "tied", lambda tensors: tensors.update({"lm_head.weight": torch.ones(96, 32)}))
    assert same(load_weights(tmp_path / "tied"), tied)


def test_loading_needs_the_weights_once(tmp_path: Path) -> None:
    """A separate process loads 140 MB of bfloat16 as float32; it may use 280 MB and a few tensors more."""
    config = replace(V1, vocab_size=2000, hidden_size=1024, head_dim=256, intermediate_size=4096, num_hidden_layers=4)
    model = Qwen(config)
    size = 4 * sum(parameter.numel() for parameter in model.parameters())
    save_weights(model, tmp_path / "m", "qwen", dtype=torch.bfloat16)
    del model
    code = (
        "import sys, torch; from qianwen.checkpoints.hf_weights import load_weights;"
        "from qianwen.runtime.device import memory_in_use_bytes, peak_memory_bytes;"
        "before = memory_in_use_bytes(); model = load_weights(sys.argv[1]); print(peak_memory_bytes() - before)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "m")], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1.3 * size, f"{int(done.stdout) / size:.2f} times the weights"


# ---- everything that can be wrong -------------------------------------------------------------------------------


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_weights(folder)
    return str(caught.value)


def test_a_missing_tensor_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    message = refusal(folder)
    assert str(folder) in message and "model.layers.1.mlp.up_proj.weight" in message and "[48, 32]" in message


def test_an_unexpected_tensor_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.layers.9.mlp.up_proj.weight": torch.ones(48, 32)}))
    message = refusal(folder)
    assert "model.safetensors" in message and "model.layers.9.mlp.up_proj.weight" in message


def test_a_wrong_shape_is_named(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(31)}))
    message = refusal(folder)
    assert "model.norm.weight" in message and "[31]" in message and "[32]" in message


def test_a_truncated_file_names_the_first_lost_tensor(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    message = refusal(folder)
    assert "model.safetensors" in message and "tensor" in message and "the file ends at" in message


def test_a_changed_byte_is_found_by_the_manifest(tmp_path: Path) -> None:
    save_weights(fresh(), tmp_path / "m")
    path = tmp_path / "m" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    assert "model.safetensors" in refusal(tmp_path / "m")


def test_pickles_are_refused_with_alternatives(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    message = refusal(folder)
    assert "pytorch_model.bin" in message and "pickle" in message and "save_file" in message


@pytest.mark.parametrize("start", [b"\x80\x04\x95", b"PK\x03\x04\x00\x00\x08\x08"])
def test_a_renamed_pickle_is_recognised(folder: Path, start: bytes) -> None:
    (folder / "model.safetensors").write_bytes(start + b"x" * 5000)
    assert "pickle" in refusal(folder)


def test_shards_that_do_not_fit_together(tmp_path: Path) -> None:
    save_weights(fresh(), tmp_path / "m", shard_bytes=20_000)
    folder = tmp_path / "m"
    (folder / "manifest.json").unlink()
    index = folder / "model.safetensors.index.json"
    first, second, *_ = sorted(folder.glob("*.safetensors"))
    kept = second.read_bytes()
    second.unlink()
    assert second.name in refusal(folder)
    second.write_bytes(first.read_bytes())
    assert "is both in" in refusal(folder)
    second.write_bytes(kept)
    for listed in ("../model.safetensors", "/etc/passwd", "sub/x.safetensors"):
        index.write_text(json.dumps({"weight_map": {"a": listed}}))
        assert "is not a file name in this folder" in refusal(folder)
    for text in ("", "[]", '{"weight_map": 3}', '{"weight_map": {"a": 1}}', "[" * 100_000):
        index.write_text(text)
        assert "index.json" in refusal(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "\x00", "[" * 100_000])
def test_a_damaged_config_is_named(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text)
    assert "config.json" in refusal(folder)


@pytest.mark.parametrize("field", ["num_hidden_layers", "hidden_size", "intermediate_size", "vocab_size"])
def test_a_config_with_huge_sizes_is_an_error_without_memory(folder: Path, field: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    for number in (10**6, 10**9, 2**62):
        (folder / "config.json").write_text(json.dumps(config | {field: number}))
        refusal(folder)


def test_other_formats_are_refused_by_name(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "awq"}}))
    assert "awq" in refusal(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "mamba", "architectures": ["Mamba"]}))
    with pytest.raises(ConfigError, match="mamba"):
        load_weights(folder)


def test_missing_folder_config_or_weights_are_errors(tmp_path: Path) -> None:
    assert "config.json" in refusal(tmp_path / "nothing")
    (tmp_path / "m").mkdir()
    assert "config.json" in refusal(tmp_path / "m")
    (tmp_path / "m" / "config.json").write_text(json.dumps(config_to_hf(V1)))
    assert "model.safetensors is missing" in refusal(tmp_path / "m")
