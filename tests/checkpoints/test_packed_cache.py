"""The cache of packed models: exact round trips, and detection of damage."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from qianwen.checkpoints.gguf.network import read_gguf, write_model
from qianwen.checkpoints.packed_cache import TENSORS, converted, load_packed, pack_gguf, save_packed
from qianwen.model.config import QwenConfig
from qianwen.model.linears.packed import PackedLinear, pack_model
from qianwen.model.rope_state import RopeState
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary

CONFIG = QwenConfig(
    vocab_size=320,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=4,
    num_key_value_heads=2,
    max_position_embeddings=128,
    layer_windows=(8, 0),
    tie_word_embeddings=True,
    initializer_range=0.2,
)
IDS = torch.arange(40).view(2, 20)


def small_model() -> Qwen:
    return pack_model(Qwen(CONFIG).init_weights(0))


def logits(model: Qwen) -> torch.Tensor:
    with torch.inference_mode():
        return model.logits(model(IDS))


def test_a_packed_model_round_trip_is_exact(tmp_path: Path) -> None:
    model = small_model()
    save_packed(model, tmp_path / "model")
    again = load_packed(tmp_path / "model")
    assert again.config == CONFIG and not again.training
    assert torch.equal(logits(again), logits(model))


def test_the_scaling_of_positions_is_kept(tmp_path: Path) -> None:
    scaling = RopeState(method="yarn", factor=4, original_len=32, attention_factor=1.1, truncate=False)
    config = replace(CONFIG, rope_scaling=scaling, scaling_from=32, train_len=32)
    save_packed(pack_model(Qwen(config).init_weights(0)), tmp_path / "model")
    assert load_packed(tmp_path / "model").config == config


def test_a_changed_byte_is_found_and_the_model_is_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    source, calls = tmp_path / "model.gguf", []
    source.write_bytes(b"anything")

    def convert() -> Qwen:
        calls.append(1)
        return small_model()

    first = converted(source, 4, convert)
    converted(source, 4, convert)
    assert len(calls) == 1
    (file,) = (tmp_path / "cache").rglob(TENSORS)
    data = bytearray(file.read_bytes())
    data[-5] ^= 1
    file.write_bytes(data)
    with pytest.raises(CheckpointError, match="changed after it was written"):
        load_packed(file.parent)
    assert torch.equal(logits(converted(source, 4, convert)), logits(first))
    assert len(calls) == 2 and "converting model.gguf again" in capsys.readouterr().out
    source.write_bytes(b"something else")
    converted(source, 4, convert)
    converted(source, 8, convert)
    assert len(calls) == 4


def test_gguf_matrices_keep_their_values(tmp_path: Path) -> None:
    vocabulary = Vocabulary({bytes([i]): i for i in range(256)}, {"<|endoftext|>": 256}, QWEN_PATTERN)
    write_model(Qwen(CONFIG).init_weights(0), vocabulary, tmp_path / "m.gguf", type="Q8_0", extra={})
    file = read_gguf(tmp_path / "m.gguf")
    model, plain = pack_gguf(file), file.load()
    expected = dict(plain.named_parameters())
    for name, module in model.named_modules():
        if isinstance(module, PackedLinear) and module.format == "q8_0":
            assert torch.equal(module.dequantize(), expected[f"{name.replace('lm_head', 'model.embed_tokens')}.weight"])
    assert (logits(model) - logits(plain)).norm() < 0.05 * logits(plain).norm()
