import json
from pathlib import Path

import pytest

from qianwen.runtime.errors import CheckpointError, ConfigError, DataError
from qianwen.runtime.files import sha256_file
from qianwen.tokenizer import vocab_files
from qianwen.tokenizer.extend import extend_vocabulary
from qianwen.tokenizer.patterns import GPT2_DIGITS_PATTERN, GPT2_PATTERN
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens
from qianwen.tokenizer.vocab_files import (
    load_vocabulary,
    qwen_vocabulary,
    read_tiktoken,
    save_vocabulary,
    write_tiktoken,
)

FORMS = ("qwen.tiktoken", "tokenizer.json", "vocab.json")


@pytest.mark.parametrize("form", [*FORMS, "."])
def test_every_form_comes_back_the_same(small: Tokenizer, tmp_path: Path, form: str) -> None:
    small.save(tmp_path)
    loaded = load_vocabulary(tmp_path / form)
    assert loaded.ranks == small.vocabulary.ranks and loaded.special_tokens == small.special_tokens
    assert loaded.pattern == small.vocabulary.pattern and loaded.nfc
    assert loaded.control_tokens == loaded.special_tokens
    again = tmp_path / "again"
    save_vocabulary(loaded, again)
    assert all((again / file).read_bytes() == (tmp_path / file).read_bytes() for file in (*FORMS, "merges.txt"))


@pytest.mark.parametrize("form", FORMS)
def test_an_extended_vocabulary_keeps_its_ids_in_every_form(small: Tokenizer, tmp_path: Path, form: str) -> None:
    grown = extend_vocabulary(small.vocabulary, {"通义千问": 3, "zzyzx": 2}).vocabulary
    save_vocabulary(grown, tmp_path)
    if form == "qwen.tiktoken":
        (tmp_path / "tokenizer_config.json").unlink()  # the gap in its ids alone must tell the control tokens
    loaded = load_vocabulary(tmp_path / form)
    assert loaded.ranks == grown.ranks and loaded.special_tokens == small.special_tokens
    assert Tokenizer(loaded).encode("zzyzx") == [grown.ranks[b"zzyzx"]]


def test_control_tokens_of_a_bare_file_fill_the_first_gap(small: Tokenizer, tmp_path: Path) -> None:
    write_tiktoken(small.vocabulary.ranks, tmp_path / "x.tiktoken")
    assert load_vocabulary(tmp_path / "x.tiktoken").special_tokens == qwen_special_tokens(len(small.vocabulary.ranks))


def _hugging_face(folder: Path, **changes: object) -> Path:
    """A folder as Qwen2.5's: tags that are text beside control tokens, in both files."""
    save_vocabulary(Vocabulary({bytes([i]): i for i in range(256)} | {b"hi": 256}), folder)
    path = folder / "tokenizer.json"
    data = json.loads(path.read_text())
    names = {300: ("<|endoftext|>", True), 301: ("<|im_end|>", True), 302: ("<tool_call>", False)}
    data["added_tokens"] = [{"id": i, "content": text, "special": flag} for i, (text, flag) in names.items()]
    data["model"] |= changes.pop("model", {})
    path.write_text(json.dumps(data | changes))
    more = {"303": {"content": "<|fim_prefix|>", "special": False}}
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": more}))
    return path


def test_added_tokens_keep_ids_and_meaning(tmp_path: Path) -> None:
    loaded = load_vocabulary(_hugging_face(tmp_path))
    assert dict(loaded.special_tokens) == {
        "<|endoftext|>": 300, "<|im_end|>": 301, "<tool_call>": 302, "<|fim_prefix|>": 303
    }  # fmt: skip
    assert loaded.visible == {"<tool_call>", "<|fim_prefix|>"} and loaded.size == 304
    save_vocabulary(loaded, tmp_path / "again")
    assert load_vocabulary(tmp_path / "again") == loaded


def test_added_tokens_of_older_folders(tmp_path: Path) -> None:
    save_vocabulary(Vocabulary({bytes([i]): i for i in range(256)} | {b"hi": 256}), tmp_path)
    (tmp_path / "tokenizer_config.json").write_text("{}")
    (tmp_path / "added_tokens.json").write_text('{"<|im_end|>": 258, "<|endoftext|>": 257}')
    assert dict(load_vocabulary(tmp_path / "vocab.json").special_tokens) == {"<|endoftext|>": 257, "<|im_end|>": 258}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


@pytest.mark.parametrize(
    ("before", "pattern"),
    [
        (BYTE_LEVEL, GPT2_PATTERN),
        ({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": True}, BYTE_LEVEL]},
         GPT2_DIGITS_PATTERN),
    ],
)  # fmt: skip
def test_other_families_patterns(tmp_path: Path, before: dict, pattern: str) -> None:
    loaded = load_vocabulary(_hugging_face(tmp_path, pre_tokenizer=before, normalizer=None))
    assert loaded.pattern == pattern and not loaded.nfc
    assert Tokenizer(loaded).encode("e\u0301") == [101, 204, 129]  # not composed


@pytest.mark.parametrize(
    ("changes", "kind", "message"),
    [
        ({"model": {"type": "Unigram"}}, ConfigError, "only byte-level BPE"),
        ({"model": {"byte_fallback": True}}, ConfigError, "only byte-level BPE"),
        ({"model": {"merges": []}}, ConfigError, "order of their ids"),
        ({"model": {"merges": ["h i", "h i j"]}}, ConfigError, "order of their ids"),
        ({"model": {"vocab": None}}, CheckpointError, "does not have the format"),
        ({"model": None}, CheckpointError, "does not have the format"),
        ({"pre_tokenizer": None}, ConfigError, "not supported"),
        ({"normalizer": {"type": "Lowercase"}}, ConfigError, "only NFC is"),
    ],
)
def test_what_cannot_be_read_exactly_is_refused(tmp_path: Path, changes: dict, kind: type, message: str) -> None:
    changes = dict(changes)
    if changes.get("model", 0) is None:
        path = _hugging_face(tmp_path)
        path.write_text("{}")
    else:
        path = _hugging_face(tmp_path, **changes)
    with pytest.raises(kind, match=message):
        load_vocabulary(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"YQ== 0\nnonsense\n", "line 2"),
        (b"YQ== 0\n!! 1\n", "line 2"),
        (b"YQ== 0\nYg==\n", "line 2"),
        (b"YQ== 0\n", "not every byte"),
    ],
)
def test_a_torn_tiktoken_file_names_the_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.tiktoken"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        load_vocabulary(path)


def test_two_tokens_of_one_id_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    write_tiktoken({bytes([i]): i for i in range(256)} | {b"ab": 255}, path)
    with pytest.raises(CheckpointError, match="same id"):
        read_tiktoken(path)


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such vocabulary file"):
        load_vocabulary(tmp_path / "none.tiktoken")
    with pytest.raises(ConfigError, match="contains no"):
        load_vocabulary(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="not readable JSON"):
        load_vocabulary(tmp_path)


def test_more_tokens_never_replace_others(small: Tokenizer) -> None:
    before = small.vocabulary
    grown = before.with_tokens({b"a": 9999, b"\xffnew": before.size, b"clash": 5, b"special": small.eod_id})
    assert dict(grown.ranks) == {**before.ranks, b"\xffnew": before.size}


def test_a_local_vocabulary_comes_first(small: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small.save(tmp_path)
    monkeypatch.setenv("QIANWEN_VOCAB", str(tmp_path / "qwen.tiktoken"))
    assert qwen_vocabulary().ranks == small.vocabulary.ranks


def test_without_a_network_the_error_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def offline(*_):
        raise DataError("dashscope==2.0.2 could not be downloaded: no network")

    monkeypatch.delenv("QIANWEN_VOCAB", raising=False)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path))
    monkeypatch.setattr(vocab_files, "wheel_file", offline)
    with pytest.raises(DataError, match="could not be downloaded.*QIANWEN_VOCAB"):
        qwen_vocabulary()
    assert "fetching" in capsys.readouterr().out


def test_the_real_vocabulary(qwen: Tokenizer, tmp_path: Path) -> None:
    assert len(qwen.vocabulary.ranks) == 151_643 and qwen.vocab_size == 151_851 and len(qwen.special_ids) == 208
    assert qwen.special_id("<|extra_204|>") == 151_850
    assert (qwen.eod_id, qwen.im_start_id, qwen.im_end_id) == (151_643, 151_644, 151_645)
    write_tiktoken(qwen.vocabulary.ranks, tmp_path / "qwen.tiktoken")
    assert sha256_file(tmp_path / "qwen.tiktoken") == vocab_files.QWEN_SHA256
