"""Models in GGUF: round trips of every architecture, the vocabulary with its ids, and real files."""

import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qianwen.checkpoints.gguf.file import GgufFile, TensorPlan, write_gguf
from qianwen.checkpoints.gguf.network import GgufModel, read_gguf, write_model
from qianwen.checkpoints.gguf.vocabulary import PATTERNS, read_vocabulary, vocabulary_metadata
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens

SHAPE = QwenConfig(
    vocab_size=600, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=512, rope_theta=1e6,
)  # fmt: skip
SHAPES = {
    "qwen": SHAPE,
    "qwen2": replace(SHAPE, num_key_value_heads=2, tie_word_embeddings=True),
    "qwen3": replace(SHAPE, num_key_value_heads=2, head_dim=32, qkv_bias=False, qk_norm=True),
    "llama": replace(SHAPE, qkv_bias=False, num_key_value_heads=2, rms_norm_eps=1e-5),
}
IDS = torch.arange(40).reshape(2, 20)


def fresh(config: QwenConfig) -> Qwen:
    model = Qwen(config).eval()
    generator = torch.Generator().manual_seed(3)
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    model.tie_weights()
    return model


@pytest.fixture
def vocabulary() -> Vocabulary:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in (b"th", b"the", b" the", "你".encode()[:2], "你".encode(), b"\xff\xfe"):
        ranks[token] = len(ranks)
    return Vocabulary(ranks, qwen_special_tokens(len(ranks)) | {"<tool_call>": 590})


# ---- there and back ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arch", SHAPES)
def test_float32_round_trip_is_exact(tmp_path: Path, vocabulary: Vocabulary, arch: str) -> None:
    model = fresh(SHAPES[arch])
    write_model(model, vocabulary, tmp_path / "m.gguf", type="F32", arch=arch, extra={"general.name": "m"})
    file = read_gguf(tmp_path / "m.gguf")
    again = file.load()
    assert file.config == model.config and file.metadata["general.architecture"] == arch
    ours, theirs = model.state_dict(), again.state_dict()
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert torch.equal(again.logits(again(IDS)), model.logits(model(IDS)))
    assert file.vocabulary == vocabulary


@pytest.mark.parametrize(("type", "tolerance"), [("F16", 2e-4), ("BF16", 2e-3), ("Q8_0", 4e-3), ("Q4_0", 0.08)])
def test_a_round_trip_with_fewer_bits_is_close(
    tmp_path: Path, vocabulary: Vocabulary, type: str, tolerance: float
) -> None:
    model = fresh(SHAPES["qwen2"])
    write_model(model, vocabulary, tmp_path / "m.gguf", type=type, extra={})
    again = GgufModel(tmp_path / "m.gguf").load()
    for name, weight in model.state_dict().items():
        error = (again.state_dict()[name] - weight).abs()
        assert error.mean() < tolerance and (weight.dim() > 1 or not error.any())


def test_the_head_and_odd_widths_keep_more_bits(tmp_path: Path, vocabulary: Vocabulary) -> None:
    config = replace(SHAPE, intermediate_size=80)
    write_model(fresh(config), vocabulary, tmp_path / "m.gguf", type="Q4_0", extra={})
    types = {name: tensor.type for name, tensor in GgufFile(tmp_path / "m.gguf").tensors.items()}
    assert types["output.weight"] == "Q8_0" and types["token_embd.weight"] == "Q4_0"
    assert types["blk.0.ffn_up.weight"] == "Q4_0" and types["blk.0.ffn_down.weight"] == "F16"
    assert types["blk.0.attn_norm.weight"] == types["blk.1.attn_q.bias"] == "F32"


@pytest.mark.parametrize("arch", ["qwen", "llama"])
def test_packed_rows_have_our_names_and_our_order(tmp_path: Path, vocabulary: Vocabulary, arch: str) -> None:
    model = fresh(SHAPES[arch])
    write_model(model, vocabulary, tmp_path / "m.gguf", type="Q8_0", arch=arch, extra={})
    file = GgufModel(tmp_path / "m.gguf")
    assert file.tensors.keys() == dict(model.named_parameters()).keys()
    for part in "qkv":
        held, weight = (
            file.tensors[f"model.layers.1.self_attn.{part}_proj.weight"],
            getattr(model.model.layers[1].self_attn, f"{part}_proj").weight,
        )
        assert held.type == "Q8_0" and held.raw.shape == (len(weight), 64 // 32 * 34)
        torch.testing.assert_close(held.dequantize(), weight.detach(), rtol=0, atol=0.01)


def test_dynamic_ntk_is_written_as_the_trained_length(tmp_path: Path, vocabulary: Vocabulary) -> None:
    config = replace(SHAPE, train_len=128, use_dynamic_ntk=True, use_logn_attn=True)
    write_model(fresh(config), vocabulary, tmp_path / "m.gguf", extra={})
    assert GgufModel(tmp_path / "m.gguf").config.max_position_embeddings == 128


def test_the_v1_layout_with_shared_heads_is_refused(tmp_path: Path, vocabulary: Vocabulary) -> None:
    with pytest.raises(ConfigError, match="num_key_value_heads"):
        write_model(fresh(SHAPES["qwen2"]), vocabulary, tmp_path / "m.gguf", arch="qwen", extra={})
    with pytest.raises(ConfigError, match="Q4_K"):
        write_model(fresh(SHAPE), vocabulary, tmp_path / "m.gguf", type="Q4_K", extra={})
    assert not list(tmp_path.iterdir())


# ---- vocabulary -------------------------------------------------------------------------------------------------


def test_tokens_keep_ids_types_and_merges(vocabulary: Vocabulary) -> None:
    metadata = vocabulary_metadata(vocabulary, 600)
    texts, kinds = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
    assert texts[258] == "Ġthe" and texts[262] == "<|endoftext|>" and texts[599] == "[PAD599]"
    assert kinds[258] == 1 and kinds[262] == 3 and kinds[590] == 4 and kinds[599] == 5
    assert metadata["tokenizer.ggml.merges"][:3] == ["t h", "th e", "Ġ the"]
    assert metadata["tokenizer.ggml.pre"] == "qwen2"
    assert read_vocabulary(metadata, Path("x")) == vocabulary


@pytest.mark.parametrize("pre", PATTERNS)
def test_patterns_keep_their_names(vocabulary: Vocabulary, pre: str) -> None:
    other = replace(vocabulary, pattern=PATTERNS[pre])
    assert vocabulary_metadata(other, 600)["tokenizer.ggml.pre"] == pre
    text = "It's 1234  5 days,\n\n  naïve 你好!"
    assert Tokenizer(other).decode(Tokenizer(other).encode(text)) == text
    with pytest.raises(ConfigError, match="does not support the pattern"):
        vocabulary_metadata(replace(vocabulary, pattern=r"\S+|\s+"), 600)


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"tokenizer.ggml.model": "llama"}, ConfigError, "llama"),
        ({"tokenizer.ggml.pre": "unheard-of"}, ConfigError, "unheard-of"),
        ({"tokenizer.ggml.pre": ["qwen2"]}, ConfigError, "not supported"),
        ({"tokenizer.ggml.tokens": ["a"]}, CheckpointError, "differ in number"),
        ({"tokenizer.ggml.merges": ["t h", "t h"]}, CheckpointError, "order"),
        ({"tokenizer.ggml.merges": ["never made"]}, CheckpointError, "order"),
        ({"tokenizer.ggml.tokens": ["é €"] * 600}, CheckpointError, "byte-level"),
    ],
)
def test_unsupported_and_damaged_vocabularies_are_refused(
    vocabulary: Vocabulary, change: dict[str, Any], kind: type[Exception], said: str
) -> None:
    with pytest.raises(kind, match=said):
        read_vocabulary(vocabulary_metadata(vocabulary, 600) | change, Path("x.gguf"))


# ---- wrong files ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "kind", "said"),
    [
        ({"general.architecture": "mamba"}, ConfigError, "mamba"),
        ({"general.architecture": None}, ConfigError, "architecture"),
        ({"qwen2.block_count": None}, CheckpointError, "qwen2.block_count is None"),
        ({"qwen2.block_count": 3}, CheckpointError, "blk.2"),
        ({"qwen2.block_count": 1}, CheckpointError, "blk.1"),
        ({"qwen2.block_count": 4_000_000_000}, CheckpointError, "num_hidden_layers"),
        ({"qwen2.feed_forward_length": 4_000_000_000}, CheckpointError, "blk.0.ffn"),
        ({"qwen2.embedding_length": 4_000_000_000}, CheckpointError, "shape"),
        ({"qwen2.embedding_length": 32}, CheckpointError, "token_embd.weight"),
        ({"qwen2.attention.head_count": 0}, ConfigError, "num_attention_heads"),
        ({"qwen2.attention.head_count": "four"}, CheckpointError, "head_count is 'four'"),
        ({"qwen2.feed_forward_length": ["96"]}, CheckpointError, "feed_forward_length"),
        ({"general.architecture": ["qwen2"]}, ConfigError, "architecture"),
        ({"qwen2.rope.dimension_count": 8}, ConfigError, "8 of 16 dimensions"),
        ({"qwen2.attention.head_count_kv": np.array([2, 2], np.int32)}, CheckpointError, "head_count_kv"),
        ({"qwen2.rope.scaling.type": "longrope"}, ConfigError, "longrope"),
    ],
)
def test_a_wrong_header_is_refused_by_name(
    tmp_path: Path, vocabulary: Vocabulary, change: dict[str, Any], kind: type[Exception], said: str
) -> None:
    write_model(fresh(SHAPES["qwen2"]), vocabulary, tmp_path / "m.gguf", type="F32", extra={})
    file = GgufFile(tmp_path / "m.gguf")
    metadata = {key: value for key, value in (file.metadata | change).items() if value is not None}
    plans = [TensorPlan(name, tensor.type, tensor.shape) for name, tensor in file.tensors.items()]
    write_gguf(tmp_path / "x.gguf", metadata, plans, (tensor.dequantize() for tensor in file.tensors.values()))
    start = time.perf_counter()
    with pytest.raises(kind, match=said):
        GgufModel(tmp_path / "x.gguf")
    assert time.perf_counter() - start < 2


# ---- real files -------------------------------------------------------------------------------------------------


def real(pattern: str) -> Path:
    folder = os.environ.get("QIANWEN_TEST_WEIGHTS")
    files = sorted(Path(folder).glob(pattern)) if folder else []
    if not files:
        pytest.skip(f"QIANWEN_TEST_WEIGHTS names no folder with {pattern}")
    return files[0]


def test_a_real_qwen_file_has_the_tokens_of_qwen() -> None:
    file = GgufModel(real("qwen2.5-coder-0.5b*.gguf"))
    tokenizer = Tokenizer(file.vocabulary)
    assert tokenizer.encode("你好") == [108386] and tokenizer.encode("3.14") == [18, 13, 16, 19]
    assert tokenizer.encode("def f(x):\n    return x\n") == [750, 282, 2075, 982, 262, 470, 856, 198]
    assert (tokenizer.eod_id, tokenizer.im_start_id, tokenizer.im_end_id) == (151643, 151644, 151645)
    assert len(file.vocabulary.ranks) == 151643 and file.config.vocab_size == 151936


def test_real_smollm_agrees_with_the_reference_dequantiser() -> None:
    quants = pytest.importorskip("gguf.quants", reason="the gguf package is the oracle")
    from gguf import GGUFReader

    path = real("smollm2*.gguf")
    theirs = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    ours = GgufFile(path).tensors
    assert ours.keys() == theirs.keys()
    for name in ("token_embd.weight", "blk.3.ffn_down.weight", "blk.29.attn_q.weight", "output_norm.weight"):
        expected = quants.dequantize(theirs[name].data, theirs[name].tensor_type)
        assert np.array_equal(ours[name].dequantize().numpy(), expected)
