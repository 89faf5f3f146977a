import base64
import json
from pathlib import Path

import pytest

from qianwen.runtime.errors import ConfigError, DataError
from qianwen.runtime.files import write_jsonl
from qianwen.tokenizer import compression
from qianwen.tokenizer.compression import LANGUAGES, draw, measure, open_vocabulary, read_texts, summary
from qianwen.tokenizer.tokenizer import Tokenizer


def test_the_memos_languages() -> None:
    assert " ".join(LANGUAGES) == "en zh code th he ar ko vi ja tr id pl ru nl pt it de es fr"


def test_bytes_per_token_by_hand() -> None:
    texts = {"en": ["abcd", "ef"], "zh": ["你好"]}
    rows = list(
        measure(texts, {"bytes": lambda t: sum(len(x.encode()) for x in t), "characters": lambda t: sum(map(len, t))})
    )
    assert [(row.language, row.num_documents, row.num_bytes) for row in rows] == [("en", 2, 6), ("zh", 1, 6)]
    assert [row.bytes_per_token("characters") for row in rows] == [1, 3]
    said = summary(rows, "bytes")
    assert said["languages"]["zh"] == {
        "documents": 1, "bytes": 6, "tokens": {"bytes": 6, "characters": 2},
        "bytes_per_token": {"bytes": 1, "characters": 3},
    }  # fmt: skip
    axes = draw(rows, "bytes").axes[0]
    assert [bar.get_height() for bar in axes.patches] == [1, 3]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["en", "zh"]


def test_texts_from_records_and_folders(tmp_path: Path) -> None:
    rows = [
        {"lang": "zho-CN", "lines": ["一\r", "二"]},
        {"lang": "fra-CA", "lines": ["ah"]},
        {"text": "x", "kind": "code"},
    ]
    write_jsonl(tmp_path / "ntrex.jsonl.zst", rows)
    (tmp_path / "newstest.deu.txt").write_text("eins\n\nzwei\n")
    (tmp_path / "ja.txt").write_text("一")
    (tmp_path / "notes.md").write_text("not read")
    found = read_texts([tmp_path])
    assert found == {"zh": ["一", "二"], "code": ["x"], "ja": ["一"], "de": ["eins", "zwei"]}
    assert read_texts([tmp_path], ["fra-CA"]) == {"fra-CA": ["ah"]}
    with pytest.raises(DataError, match="no documents in sw; found"):
        read_texts([tmp_path], ["sw"])
    with pytest.raises(DataError, match="no such file"):
        read_texts([tmp_path / "none"])


def test_code_is_the_standard_library_if_none_is_given(tmp_path: Path) -> None:
    (tmp_path / "en.txt").write_text("one")
    found = read_texts([tmp_path])
    assert list(found) == ["en", "code"] and len(found["code"]) > 10
    assert 2_000_000 < sum(map(len, found["code"])) < 4_000_000


def test_vocabularies_of_several_kinds(small: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ["Hello 我是一只猫", "12"]
    small.save(tmp_path / "ours")
    counts = [sum(map(len, small.encode_batch(texts)))] * 2
    named = [open_vocabulary(str(tmp_path / "ours")), open_vocabulary(f"b={tmp_path / 'ours' / 'tokenizer.json'}")]
    assert [name for name, _ in named] == ["ours", "b"] and [count(texts) for _, count in named] == counts
    tokens = " ".join(base64.b64encode(bytes([i])).decode() for i in range(256))
    npm = {"pat_str": r"\s+|\S+", "special_tokens": {}, "bpe_ranks": f"! 0 {tokens}\n! 256 aGU="}
    (tmp_path / "x_base.json").write_text(json.dumps(npm))
    name, count = open_vocabulary(str(tmp_path / "x_base.json"))
    assert name == "x_base" and count(["hehe x"]) == 4
    monkeypatch.setenv("QIANWEN_VOCAB", str(tmp_path / "ours"))
    assert open_vocabulary("qwen")[1](texts) == counts[0]
    with pytest.raises(ConfigError, match="no such vocabulary file"):
        open_vocabulary("none.json")


def test_any_other_tokenizer_json_is_counted_by_gigatoken(tmp_path: Path) -> None:
    pytest.importorskip("gigatoken", reason="the extra [fast] is not installed")
    vocab = {f"<0x{i:02X}>": i for i in range(256)} | {"▁": 256, "a": 257, "▁a": 258}
    model = {
        "type": "BPE",
        "byte_fallback": True,
        "fuse_unk": True,
        "vocab": vocab,
        "merges": ["▁ a"],
        "unk_token": None,
    }
    steps = [{"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
    data = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": steps},
        "model": model,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(data))
    name, count = open_vocabulary(f"llama={tmp_path / 'tokenizer.json'}")
    assert name == "llama" and count(["a a", "好"]) == 2 + 4  # ▁a ▁a; ▁ and three bytes


def test_openais_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str):
        raise ConnectionError(name)

    monkeypatch.setattr(compression.tiktoken, "get_encoding", offline)
    with pytest.raises(DataError, match="cl100k could not be downloaded.*cl100k=PATH"):
        open_vocabulary("cl100k")
