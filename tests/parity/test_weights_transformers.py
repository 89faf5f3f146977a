"""Our folders in transformers itself: the same logits, the same ids, the same chat prompt; and theirs in ours."""

import warnings
from dataclasses import replace
from pathlib import Path

import pytest
import torch

transformers = pytest.importorskip("transformers", reason="transformers is the oracle")

from qianwen.chat import FunctionSpec, Message, ToolCall, render, to_openai  # noqa: E402
from qianwen.checkpoints.hf_folder import write_folder  # noqa: E402
from qianwen.checkpoints.hf_weights import load_weights, save_weights  # noqa: E402
from qianwen.model.config import QwenConfig  # noqa: E402
from qianwen.model.transformer import Qwen  # noqa: E402
from qianwen.runtime.files import atomic_folder  # noqa: E402
from qianwen.tokenizer.tokenizer import Tokenizer  # noqa: E402
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens  # noqa: E402

SHAPE = QwenConfig(
    vocab_size=520, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
    max_position_embeddings=256,
)  # fmt: skip
SHAPES = {
    "Qwen2ForCausalLM": replace(SHAPE, num_key_value_heads=2, tie_word_embeddings=True, rope_theta=1e6),
    "Qwen3ForCausalLM": replace(SHAPE, num_key_value_heads=2, head_dim=32, qkv_bias=False, qk_norm=True),
    "LlamaForCausalLM": replace(SHAPE, qkv_bias=False),
}
TEXTS = ["the cat", "你好，世界 🌍", "  1234 + 5\n\n", "e\u0301 x", "it's IT'S", "\t\r\n x"]


def fresh(config: QwenConfig) -> Qwen:
    model = Qwen(config).init_weights(seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def tokenizer(*tags: str) -> Tokenizer:
    ranks = {bytes([byte]): byte for byte in range(256)}
    for token in (b"th", b"the", b"at", b" c", b" cat", "你".encode()[:2], "你".encode()):
        ranks[token] = len(ranks)
    special = qwen_special_tokens(len(ranks))
    behind = len(ranks) + len(special)  # transformers knows no gaps between added tokens
    return Tokenizer(Vocabulary(ranks, special | {tag: behind + i for i, tag in enumerate(tags)}))


@torch.no_grad()
@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("shard_bytes", [1 << 30, 30_000])
def test_logits_are_equal_both_ways(tmp_path: Path, name: str, shard_bytes: int) -> None:
    model = fresh(SHAPES[name])
    save_weights(model, tmp_path / "ours", shard_bytes=shard_bytes)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "ours", dtype=torch.float32).eval()
    assert type(theirs).__name__ == name
    ids = torch.randint(0, 520, (2, 50), generator=torch.Generator().manual_seed(3))
    ours, expected = model.logits(model(ids)), theirs(ids).logits
    torch.testing.assert_close(ours, expected, rtol=3e-5, atol=3e-5)
    assert torch.equal(ours.argmax(-1), expected.argmax(-1))
    theirs.save_pretrained(tmp_path / "theirs", max_shard_size="40KB" if shard_bytes < 1 << 20 else "5GB")
    again = load_weights(tmp_path / "theirs")
    assert again.config == model.config and torch.equal(again.logits(again(ids)), ours)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    with atomic_folder(tmp_path / "m") as inside:
        write_folder(fresh(SHAPE), tokenizer("<tool_call>", "</tool_call>"), inside, chat=True)
    return tmp_path / "m"


def test_ids_are_equal(folder: Path) -> None:
    ours, theirs = Tokenizer.from_folder(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert theirs(text, add_special_tokens=True)["input_ids"] == ours.encode(text)
        assert theirs.decode(ours.encode(text)) == ours.decode(ours.encode(text))
    for name, token in ours.special_tokens.items():
        assert theirs.convert_tokens_to_ids(name) == token
    assert theirs.eos_token_id == ours.im_end_id and theirs.pad_token_id == ours.eod_id


@pytest.mark.parametrize("visible", [None, frozenset({"<tool_call>"})])
def test_special_tokens_are_the_same(tmp_path: Path, visible: frozenset[str] | None) -> None:
    """Of a vocabulary with Llama's marks: what transformers calls special is what we never print."""
    names = ("<s>", "</s>", "<pad>", "<|im_end|>", "<tool_call>")
    ranks = {bytes([byte]): byte for byte in range(256)}
    ours = Tokenizer(Vocabulary(ranks, {name: 256 + i for i, name in enumerate(names)}, visible=visible))
    ours.save(tmp_path / "alone")
    with atomic_folder(tmp_path / "model") as inside:
        write_folder(fresh(SHAPE), ours, inside, chat=True)
    ids = [104, *range(256, 261), 105]
    for folder in ("alone", "model"):
        theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / folder)
        assert sorted(theirs.all_special_tokens) == sorted(names[:-1])
        assert set(theirs.all_special_ids) == ours.control_ids
        assert theirs.decode(ids, skip_special_tokens=True) == ours.decode(ids, skip_special=True) == "h<tool_call>i"
        theirs.save_pretrained(tmp_path / "again")
        assert Tokenizer.from_folder(tmp_path / "again").control_ids == ours.control_ids


def test_apply_chat_template_gives_our_ids(folder: Path) -> None:
    ours, theirs = Tokenizer.from_folder(folder), transformers.AutoTokenizer.from_pretrained(folder)
    add = FunctionSpec("add", "Adds.", {"type": "object", "properties": {"a": {"type": "number"}}})
    call = ToolCall("add", '{"a": 1}')
    plain = [Message("user", "你好"), Message("assistant", "the cat"), Message("user", "1\n2")]
    tools = [Message("system", "Be brief."), Message("user", "1+1?"), Message("assistant", "", tool_calls=(call, call))]
    tools += [Message("tool", "2"), Message("tool", "3"), Message("assistant", "2")]
    for messages, functions in ((plain, []), (tools, [add]), (plain[:1], [add])):
        for ask in (True, False):
            given = [to_openai(message) for message in messages]
            described = [function.to_openai() for function in functions] or None
            ids = theirs.apply_chat_template(given, tools=described, add_generation_prompt=ask, return_dict=False)
            assert ids == render(messages, ours, functions=functions, add_generation_prompt=ask).ids


def test_generation_stops_where_the_folder_says(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ours = Tokenizer.from_folder(folder)
    assert theirs.generation_config.eos_token_id == [ours.im_end_id, ours.eod_id]
    assert theirs.generation_config.pad_token_id == ours.eod_id
