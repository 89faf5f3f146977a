"""What a GPTQ folder will take is said before it is made, and no table of a tied model is stored twice."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qianwen.checkpoints.gguf.network import write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.checkpoints.load import load_model, open_model
from qianwen.cli import main
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.quantize.gptq import GptqConfig
from qianwen.quantize.sizes import folder_sizes
from qianwen.runtime.files import atomic_folder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

SHAPE = QwenConfig(
    vocab_size=472, hidden_size=256, intermediate_size=512, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=128,
)  # fmt: skip
TOKENIZER = Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))
HEAD, EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"
GRID = GptqConfig(group_size=32)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))


def network(*, is_one_table: bool, config: QwenConfig = SHAPE) -> Qwen:
    """A network with a head of its own, which holds the embedding's numbers or others."""
    model = Qwen(config).init_weights(seed=1).eval()
    for parameter in model.parameters():
        parameter.data *= 2
    if is_one_table:
        model.lm_head.weight.data = model.model.embed_tokens.weight.data.clone()
    return model


def write_gguf(model: Qwen, type: str) -> str:
    write_model(model, TOKENIZER.vocabulary, Path("m.gguf"), type=type, extra={"tokenizer.ggml.eos_token_id": 256})
    return "m.gguf"


def folder_bytes() -> int:
    return sum(file.stat().st_size for file in Path("out").glob("*.safetensors"))


@pytest.mark.parametrize("type", ["Q4_0", "Q4_K_M", "Q8_0", "F16", "F32", "BF16"])
def test_the_predicted_size_is_the_real_one(type: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = write_gguf(network(is_one_table=False), type)
    size = folder_sizes(open_model(file), GRID, "qwen2")
    assert size.before == Path(file).stat().st_size
    assert main(["quantize", file, "--to", "out", "--method", "rtn", "--group-size", "32"]) == 0
    assert size.after <= folder_bytes() < size.after + 20_000  # the header
    output = capsys.readouterr().out
    assert f"m: {size.before / 1e9:.3f} GB now" in output and f"about {size.after / 1e9:.3f} GB" in output
    assert ("hardly smaller or even larger" in output) == (size.after > 0.9 * size.before)
    assert output.index("GB now") < output.index("top-1 agreement")


@pytest.mark.parametrize("bits", ["4", "8"])
def test_a_folder_of_floats_becomes_smaller_without_a_warning(bits: str, capsys: pytest.CaptureFixture[str]) -> None:
    with atomic_folder("floats") as inside:
        write_folder(network(is_one_table=False), TOKENIZER, inside, chat=True)
    assert main(["quantize", "floats", "--to", "out", "--method", "rtn", "--bits", bits, "--group-size", "32"]) == 0
    output = capsys.readouterr().out
    assert "(32.0 bits per weight)" in output and "larger" not in output
    assert folder_bytes() < 0.6 * Path("floats/model.safetensors").stat().st_size


@pytest.mark.parametrize("type", ["Q4_0", "Q4_K_M", "Q8_0", "F16", "F32"])
def test_two_roundings_of_one_table_become_one(type: str) -> None:
    model = network(is_one_table=True)
    size = folder_sizes(open_model(write_gguf(model, type)), GRID, "qwen2")
    assert main(["quantize", "m.gguf", "--to", "out", "--method", "rtn", "--group-size", "32"]) == 0
    tensors = load_file("out/model.safetensors")
    assert HEAD not in tensors and size.after <= folder_bytes() < size.after + 20_000
    head = open_model("m.gguf").source.tensors[HEAD].dequantize()  # type: ignore[union-attr]
    torch.testing.assert_close(tensors[EMBEDDING].float(), head, atol=1e-3, rtol=1e-3)
    loaded = load_model("out", dtype=torch.float32)
    assert loaded.config.tie_word_embeddings


def test_two_different_tables_stay_two() -> None:
    write_gguf(network(is_one_table=False), "Q4_K_M")
    assert main(["quantize", "m.gguf", "--to", "out", "--method", "rtn", "--group-size", "32"]) == 0
    assert {HEAD, EMBEDDING} <= load_file("out/model.safetensors").keys()


def test_a_tied_model_stays_tied() -> None:
    write_gguf(network(is_one_table=False, config=replace(SHAPE, tie_word_embeddings=True)), "Q4_0")
    assert main(["quantize", "m.gguf", "--to", "out", "--method", "rtn", "--group-size", "32"]) == 0
    assert HEAD not in load_file("out/model.safetensors")


def test_the_difference_is_measured_from_the_file_as_it_is() -> None:
    """Also what changes because the embedding is now the head's table."""
    from qianwen.quantize.gptq_model import quantize_model

    model = network(is_one_table=True)
    model.model.embed_tokens.weight.data += 0.1 * model.model.embed_tokens.weight * torch.randn(472, 256).sign()
    done = quantize_model(open_model(write_gguf(model, "F32")), "out", GptqConfig(bits=8, group_size=32))
    near = quantize_model(
        open_model(write_gguf(network(is_one_table=True), "F32")), "near", GptqConfig(bits=8, group_size=32)
    )
    assert done.parity.mean_kl > 3 * near.parity.mean_kl
