"""Vocabularies as other tools write them: names of the pattern, NFC, tokens that are flagged as text."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qianwen.checkpoints.gguf.vocabulary import PATTERNS, read_vocabulary
from qianwen.runtime.errors import CheckpointError, ConfigError
from qianwen.tokenizer.byte_pairs import bytes_to_text
from qianwen.tokenizer.hf_vocab_files import read_tokenizer_json
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, is_control_name

DECOMPOSED, COMPOSED = "cafe\u0301 \u1100\u1161", "caf\u00e9 \uac00"
NO_NAME = object()


def metadata(pre: object, arch: str = "qwen2", **special: int) -> dict[str, Any]:
    texts = [bytes_to_text(bytes([value])) for value in range(256)] + list(special)
    entries = {
        "general.architecture": arch,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": texts,
        "tokenizer.ggml.token_type": np.array([1] * 256 + list(special.values()), np.int32),
        "tokenizer.ggml.merges": [],
    }
    return {key: value for key, value in entries.items() if value is not NO_NAME}


def read(*args: Any, **special: int) -> Vocabulary:
    return read_vocabulary(metadata(*args, **special), Path("m.gguf"))


@pytest.mark.parametrize(
    ("pre", "pattern", "nfc"),
    [
        ("qwen2", "qwen2", True),
        ("deepseek-r1-qwen", "qwen2", True),
        ("megrez", "qwen2", False),
        ("llama-bpe", "llama-bpe", False),
        ("llama3", "llama-bpe", False),
        ("llama-v3", "llama-bpe", False),
        ("falcon3", "llama-bpe", False),
        ("smaug-bpe", "llama-bpe", False),
        ("gpt-2", "gpt-2", False),
        ("phi-2", "gpt-2", False),
        ("smollm", "smollm", False),
    ],
)
def test_names_of_the_pattern(pre: str, pattern: str, nfc: bool, capsys: pytest.CaptureFixture) -> None:
    vocabulary = read(pre)
    assert vocabulary.pattern == PATTERNS[pattern] and vocabulary.nfc == nfc
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.decode(tokenizer.encode(DECOMPOSED)) == (COMPOSED if nfc else DECOMPOSED)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("pre", [NO_NAME, "default"])
@pytest.mark.parametrize(
    ("arch", "pattern"), [("qwen", "qwen2"), ("qwen2", "qwen2"), ("qwen3", "qwen2"), ("llama", "llama-bpe")]
)
def test_without_a_name_that_of_the_architecture_with_a_warning(
    pre: object, arch: str, pattern: str, capsys: pytest.CaptureFixture
) -> None:
    assert read(pre, arch).pattern == PATTERNS[pattern]
    said = capsys.readouterr().err
    assert "m.gguf" in said and "tokenizer.ggml.pre" in said and pattern in said


@pytest.mark.parametrize("pre", ["deepseek-llm", "gpt-4o", "tekken", "Qwen2", "", 7, ["qwen2"], None])
def test_unknown_names_are_refused(pre: object) -> None:
    with pytest.raises(ConfigError, match="m.gguf.*pattern"):
        read(pre)


@pytest.mark.parametrize("flag", [3, 4])
@pytest.mark.parametrize(
    "name",
    ["<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜tool▁calls▁begin｜>"],
)
def test_marks_of_deepseek_steer_the_model_whatever_their_flag(name: str, flag: int) -> None:
    vocabulary = read("qwen2", "qwen2", **{name: flag, "<think>": 4})
    assert vocabulary.is_control(name) and is_control_name(name)
    assert not vocabulary.is_control("<think>")
    tokenizer = Tokenizer(vocabulary)
    assert 256 not in tokenizer.encode(name) and tokenizer.decode([256, 65], skip_special=True) == "A"


def tokenizer_json(folder: Path, normalizer: object, *, mark_special: bool = False) -> Path:
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
    content = {
        "model": {"type": "BPE", "vocab": {bytes_to_text(bytes([v])): v for v in range(256)}, "merges": []},
        "normalizer": normalizer,
        "pre_tokenizer": byte_level,
        "added_tokens": [{"id": 256, "content": "<｜User｜>", "special": mark_special}],
    }
    (folder / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "tokenizer.json"


@pytest.mark.parametrize(
    ("normalizer", "nfc"),
    [
        (None, False),
        ({"type": "NFC"}, True),
        ({"type": "Sequence", "normalizers": []}, False),
        ({"type": "Sequence", "normalizers": [{"type": "NFC"}]}, True),
        ({}, False),
    ],
)
def test_nfc_only_where_tokenizer_json_has_it(tmp_path: Path, normalizer: object, nfc: bool) -> None:
    vocabulary = read_tokenizer_json(tokenizer_json(tmp_path, normalizer))
    assert vocabulary.nfc == nfc and vocabulary.is_control("<｜User｜>")
    tokenizer = Tokenizer(vocabulary)
    assert tokenizer.decode(tokenizer.encode(DECOMPOSED)) == (COMPOSED if nfc else DECOMPOSED)


@pytest.mark.parametrize("kind", ["NFKC", "NFD", "Lowercase", "StripAccents", "Replace", "Prepend", "Sequence"])
@pytest.mark.parametrize("nested", [False, True])
def test_other_normalizers_are_refused_by_name(tmp_path: Path, kind: str, nested: bool) -> None:
    normalizer = {"type": kind, "normalizers": [{"type": "NFKC"}]} if kind == "Sequence" else {"type": kind}
    if nested:
        normalizer = {"type": "Sequence", "normalizers": [{"type": "NFC"}, normalizer]}
    with pytest.raises(ConfigError, match="normalizer"):
        read_tokenizer_json(tokenizer_json(tmp_path, normalizer))


def test_a_file_of_windows_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    path = tokenizer_json(tmp_path, None)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert read_tokenizer_json(path).ranks
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(CheckpointError, match="not readable JSON"):
        read_tokenizer_json(path)
