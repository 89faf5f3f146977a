"""A pointer or a web page in place of a model file is called that, in every file that is read."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from qianwen.checkpoints.gguf.file import GgufFile
from qianwen.checkpoints.hf_weights import read_json
from qianwen.checkpoints.safetensors_file import SafetensorsFile
from qianwen.runtime.errors import CheckpointError
from qianwen.runtime.placeholders import check_contents
from qianwen.tokenizer.vocab_files import load_vocabulary

LFS = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a2146' * 8}\nsize 12345\n"
CONTENTS = {
    "LFS pointer": (LFS, "Git LFS pointer.*git lfs pull"),
    "LFS pointer of Windows": (LFS.replace("\n", "\r\n"), "Git LFS pointer"),
    "older LFS pointer": (LFS.replace("git-lfs.github.com", "hawser.github.com"), "Git LFS pointer"),
    "git-annex pointer": ("/annex/objects/SHA256E-s3--abc.gguf\n", "git-annex pointer"),
    "page": ("<!DOCTYPE html>\n<html><head><title>Sign in</title></head></html>", "web page"),
    "page without doctype": ("<html lang=en><body>404</body></html>", "web page"),
    "page after blank lines": ("\n\n  <HTML><body>404</body></HTML>", "web page"),
    "page with a byte order mark": ("\ufeff<!doctype html><p>not found", "web page"),
    "xhtml": ('<?xml version="1.0"?>\n<html xmlns="http://www.w3.org/1999/xhtml"></html>', "web page"),
    "error of a storage server": ("<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>", "error message"),
    "error of the hub": ("Entry not found", "error message.*Entry not found"),
    "error in JSON": ('{"error":"Access to model is restricted"}', "error message"),
    "refused": ("Access to model org/name is restricted. You must be authenticated.", "error message"),
}


def beside(name: str, other: str, content: str) -> Callable[[Path], object]:
    def read(path: Path) -> object:
        path.with_name(other).write_text(content)
        return load_vocabulary(path.with_name(name))

    return read


READERS: dict[str, Callable[[Path], object]] = {
    "model.safetensors": SafetensorsFile,
    "model-q4_k_m.gguf": GgufFile,
    "config.json": read_json,
    "tokenizer.json": load_vocabulary,
    "qwen.tiktoken": load_vocabulary,
    "vocab.json": load_vocabulary,
    "merges.txt": beside("vocab.json", "vocab.json", json.dumps({"a": 0})),
}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("kind", CONTENTS)
def test_it_is_called_what_it_is(tmp_path: Path, name: str, kind: str) -> None:
    content, expected = CONTENTS[kind]
    (tmp_path / name).write_bytes(content.encode())
    with pytest.raises(CheckpointError, match=expected) as error:
        READERS[name](tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"GGUF\x03\0\0\0", b"version 2", b"<unk> 0", b"#version: 0.2\n", b"\0" * 64]
)
def test_other_contents_are_left_to_the_reader(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "file").write_bytes(content)
    check_contents(tmp_path / "file")
