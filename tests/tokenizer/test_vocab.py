"""Which special tokens are control tokens: one rule, and every file and program that follows it."""

import json
from pathlib import Path

import numpy as np
import pytest

from qianwen.checkpoints.gguf.vocabulary import CONTROL, USER_DEFINED, read_vocabulary, vocabulary_metadata
from qianwen.engine.detokenize import Detokenizer, StopStrings
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, is_control_name, qwen_special_tokens
from qianwen.tokenizer.vocab_files import load_vocabulary, save_vocabulary

BYTES = {bytes([byte]): byte for byte in range(256)}
LLAMA_LIKE = {"<s>": 256, "</s>": 257, "<pad>": 258, "<|im_end|>": 259, "<tool_call>": 260}
CONTROL_NAMES = ["<s>", "</s>", "<pad>", "<|im_end|>"]


def special_flags(folder: Path) -> list[dict[str, bool]]:
    """Token → `special`, from each of the two files that say it."""
    listed = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["additional_special_tokens"] == CONTROL_NAMES
    entries = [listed, config["added_tokens_decoder"].values()]
    return [{entry["content"]: entry["special"] for entry in several} for several in entries]


@pytest.mark.parametrize(
    ("name", "control"),
    [("<|im_end|>", True), ("<s>", True), ("<pad>", True), ("<tool_call>", False), ("</think>", False), ("<|x", False)],
)
def test_a_name_tells_where_no_file_does(name: str, control: bool) -> None:
    assert is_control_name(name) == control
    assert Vocabulary(BYTES, {name: 256}).is_control(name) == control


def test_a_file_that_tells_overrules_the_name() -> None:
    vocabulary = Vocabulary(BYTES, {"<|fim|>": 256, "<eot>": 257}, visible=frozenset({"<|fim|>"}))
    assert vocabulary.control_tokens == {"<eot>": 257}


def test_qwen_has_control_tokens_only() -> None:
    special = qwen_special_tokens(256)
    assert Vocabulary(BYTES, special).control_tokens == special and len(special) == 208


@pytest.mark.parametrize("visible", [None, frozenset({"<tool_call>"})])
def test_every_file_and_the_engine_agree(tmp_path: Path, visible: frozenset[str] | None) -> None:
    vocabulary = Vocabulary(BYTES, LLAMA_LIKE, visible=visible)
    wanted = {name: name in CONTROL_NAMES for name in LLAMA_LIKE}
    save_vocabulary(vocabulary, tmp_path / "one")
    assert special_flags(tmp_path / "one") == [wanted, wanted]
    for form in ("tokenizer.json", "vocab.json", "qwen.tiktoken"):
        loaded = load_vocabulary(tmp_path / "one" / form)
        assert list(loaded.control_tokens) == CONTROL_NAMES
        save_vocabulary(loaded, tmp_path / form)
        assert special_flags(tmp_path / form) == [wanted, wanted], "a round trip keeps it"
    metadata = vocabulary_metadata(vocabulary, 261)
    kinds = metadata["tokenizer.ggml.token_type"]
    assert kinds[256:].tolist() == [CONTROL] * 4 + [USER_DEFINED]
    from_gguf = read_vocabulary(metadata, tmp_path)
    assert list(from_gguf.control_tokens) == CONTROL_NAMES
    assert np.array_equal(vocabulary_metadata(from_gguf, 261)["tokenizer.ggml.token_type"], kinds)
    for read in (vocabulary, loaded, from_gguf):
        assert printed_by_the_engine(Tokenizer(read), [104, *LLAMA_LIKE.values(), 105]) == "h<tool_call>i"
        assert Tokenizer(read).decode([104, *LLAMA_LIKE.values(), 105], skip_special=True) == "h<tool_call>i"


def printed_by_the_engine(tokenizer: Tokenizer, ids: list[int]) -> str:
    detokenizer = Detokenizer(tokenizer, StopStrings(()))
    return "".join([*map(detokenizer.add, ids), detokenizer.finish()])


def test_a_gguf_file_keeps_what_another_program_said(tmp_path: Path) -> None:
    metadata = vocabulary_metadata(Vocabulary(BYTES, {"<|fim|>": 256, "<eot>": 257, "<u>": 258}), 259)
    metadata["tokenizer.ggml.token_type"][256:] = [USER_DEFINED, CONTROL, 2]  # 2: unknown
    assert list(read_vocabulary(metadata, tmp_path).control_tokens) == ["<eot>", "<u>"]
