"""MODEL → a GPTQ folder: what it says, that every reading of it agrees, in both layouts, and that it appears whole."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qianwen.checkpoints.gguf.network import write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.kernels.cpu.build import family
from qianwen.model.config import QwenConfig
from qianwen.model.linears.gptq_codes import GptqLinear
from qianwen.model.linears.packed import PackedLinear
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.gptq_model import quantize_model
from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import atomic_folder, verify_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

CONFIG = QwenConfig(
    vocab_size=472, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128,
)  # fmt: skip
GRID = GptqConfig(group_size=32)
TEXTS = [[(7 * i + 3 * j) % 256 for j in range(60)] for i in range(12)]


def tokenizer() -> Tokenizer:
    return Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))


@pytest.fixture(autouse=True)
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Qwen:
    """The model in `source/`, which is also the current folder's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    model = Qwen(CONFIG).init_weights(seed=1).eval()
    for name, parameter in model.named_parameters():
        parameter.data = torch.randn(parameter.shape) * 0.1 if name.endswith("bias") else 2 * parameter.data
    with atomic_folder("source") as inside:
        write_folder(model, tokenizer(), inside, chat=True, generation={"top_p": 0.5})
    return model


def logits(model: Qwen) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(model(torch.tensor(TEXTS[:2]))).float()


def test_the_folder_says_what_it_holds() -> None:
    done = quantize_model(open_model("source"), "out", GRID, TEXTS)
    assert done.folder == Path("out") and done.parity.num_prompts == 64 and 0 < done.parity.mean_kl < 1
    assert {"README.md", "config.json", "quantize_config.json", "tokenizer.json"} <= set(verify_folder("out")["files"])
    config = json.loads(Path("out/config.json").read_text())
    said = config["quantization_config"]
    assert config["architectures"] == ["Qwen2ForCausalLM"] and config["torch_dtype"] == "float16"
    assert said["quant_method"] == "gptq" and said["bits"] == 4 and said["group_size"] == 32 and said["sym"]
    tensors = load_file("out/model.safetensors")
    stem = "model.layers.1.mlp.down_proj."
    assert tensors[stem + "qweight"].shape == (16, 64) and tensors[stem + "scales"].dtype == torch.float16
    assert stem + "bias" not in tensors and "model.layers.1.self_attn.q_proj.bias" in tensors
    assert tensors["lm_head.weight"].dtype == torch.float16
    card = Path("out/README.md").read_text()
    assert "GPTQ Int4" in card and "weights are quantised" in card


@pytest.mark.parametrize("layout", ["qwen2", "qwen"])
@pytest.mark.parametrize("grid", [GRID, GptqConfig(bits=8), GptqConfig(group_size=64, sym=False, act_order=True)])
def test_every_reading_agrees(layout: str, grid: GptqConfig) -> None:
    quantize_model(open_model("source"), "out", grid, TEXTS, layout=layout)  # type: ignore[arg-type]
    floats = load_model("out", dtype=torch.float32).model
    base = load_model("out", bits="nf4", dtype=torch.float32).model
    assert isinstance(base.model.layers[0].mlp.up_proj, GptqLinear)
    torch.testing.assert_close(logits(base), logits(floats), atol=1e-4, rtol=1e-4)
    packed = load_model("out", bits=grid.bits).model
    assert isinstance(packed.model.layers[0].mlp.up_proj, PackedLinear)
    assert (logits(packed) - logits(floats)).norm() < 0.05 * logits(floats).norm()
    loaded = load_model("out")
    assert loaded.chat and loaded.generation["top_p"] == 0.5


def test_it_loses_less_than_rounding_to_nearest(source: Qwen) -> None:
    errors = {}
    for name, texts in (("gptq", TEXTS), ("nearest", [])):
        quantize_model(open_model("source"), name, GRID, texts)
        errors[name] = (logits(load_model(name, dtype=torch.float32).model) - logits(source)).norm().item()
    assert errors["gptq"] < 0.8 * errors["nearest"]


@pytest.mark.skipif(family() is None, reason="no compiled kernels for this processor")
def test_as_stored_it_is_packed_to_the_last_bit() -> None:
    quantize_model(open_model("source"), "out", GRID, TEXTS)
    stored, floats = (load_model("out", bits=bits, dtype=torch.float32).model for bits in ("stored", None))
    for name, linear in floats.named_modules():
        if name.endswith("_proj"):
            packed = stored.get_submodule(name)
            assert packed.format == "q4_0" and torch.equal(packed.dequantize(), linear.weight)


def test_a_gguf_file_and_a_tied_head(source: Qwen) -> None:
    tied = Qwen(replace(CONFIG, tie_word_embeddings=True, num_key_value_heads=2)).init_weights(seed=2).eval()
    write_model(tied, tokenizer().vocabulary, "tied.gguf", type="F32", extra={"tokenizer.ggml.eos_token_id": 256})
    done = quantize_model(open_model("tied.gguf"), "out", GptqConfig(bits=8, group_size=32), TEXTS)
    assert done.parity.top1_agreement > 0.9
    assert "lm_head.weight" not in load_file("out/model.safetensors")
    found = load_model("out", dtype=torch.float32).model
    assert (logits(found) - logits(tied)).norm() < 0.05 * logits(tied).norm()


def test_it_shows_how_far_it_is(source: Qwen, capsys: pytest.CaptureFixture[str]) -> None:
    quantize_model(open_model("source"), "out", GRID, TEXTS)
    assert "quantising source to 4 bits: 2 in" in capsys.readouterr().out


def test_what_cannot_be_quantised_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(DataError, match="calibration texts are empty"):
        quantize_model(open_model("source"), "out", GRID, [[], []])
    assert not Path("out").exists()
    quantize_model(open_model("source"), "out", GRID)
    with pytest.raises(ConfigError, match="already has 4 bits per weight"):
        quantize_model(open_model("out"), "again", GRID)
    Path("adapter").mkdir()
    Path("adapter/adapter_config.json").write_text('{"base_model_name_or_path": "source"}')
    with pytest.raises(ConfigError, match="merge it first"):
        quantize_model(open_model("adapter"), "again", GRID)
    assert not Path("again").exists()
