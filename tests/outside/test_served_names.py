"""The name of a model is the one that was asked for, in hub caches too, where files are links to their hashes."""

import os
from pathlib import Path

import pytest

from qianwen.checkpoints.load import find_model, model_name
from qianwen.runtime.errors import ConfigError

HASH = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393"
COMMIT = "c291d6fce4804a1d39305f388dd32897d1f7acc4"


@pytest.fixture
def snapshot(tmp_path: Path) -> Path:
    """A repository in the hub's cache, with links as `huggingface_hub` makes them."""
    repository = tmp_path / "hub" / "models--Qwen--Qwen2.5-0.5B-Instruct"
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    (repository / "blobs").mkdir()
    (repository / "blobs" / HASH).write_bytes(b"GGUF")
    for name in ("model.safetensors", "config.json", "qwen2.5-0.5b-instruct-q4_k_m.gguf", "big-00002-of-00003.gguf"):
        (folder / name).symlink_to(Path("..", "..", "blobs", HASH))
    return folder


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("", "Qwen2.5-0.5B-Instruct"),
        ("model.safetensors", "Qwen2.5-0.5B-Instruct"),
        ("config.json", "Qwen2.5-0.5B-Instruct"),
        ("qwen2.5-0.5b-instruct-q4_k_m.gguf", "qwen2.5-0.5b-instruct-q4_k_m"),
        ("big-00002-of-00003.gguf", "big"),
    ],
)
def test_in_the_cache_of_the_hub(snapshot: Path, file: str, name: str) -> None:
    assert model_name(str(snapshot / file)) == name
    assert HASH not in model_name(os.path.relpath(snapshot / file))


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2.5-0.5B-Instruct"),
        ("Qwen/Qwen2.5-0.5B-Instruct@v1.0", "Qwen2.5-0.5B-Instruct"),
        ("modelscope:Qwen/Qwen-7B-Chat", "Qwen-7B-Chat"),
        ("modelscope:Qwen/Qwen-7B-Chat@master", "Qwen-7B-Chat"),
        ("demo", "demo"),
        ("runs/demo", "demo"),
        ("runs/demo/model", "demo"),
        ("runs/demo/model/model.safetensors", "demo"),
        ("models/qwen.gguf", "qwen"),
        ("~/models/qwen-00001-of-00002.gguf", "qwen"),
        ("models/Qwen-7B-Chat/", "Qwen-7B-Chat"),
        ("models/Qwen-7B-Chat/config.json", "Qwen-7B-Chat"),
    ],
)
def test_other_names(model: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_name(model) == name


def test_a_blob_without_suffix_is_called_a_gguf_file(snapshot: Path) -> None:
    with pytest.raises(ConfigError, match="GGUF file without the suffix"):
        find_model(str(snapshot.parents[1] / "blobs" / HASH))


def test_a_link_keeps_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / HASH).write_bytes(b"GGUF")
    (tmp_path / "coder.gguf").symlink_to(tmp_path / "store" / HASH)
    (tmp_path / "latest").symlink_to(tmp_path / "store")
    assert model_name("coder.gguf") == "coder" and model_name("latest") == "latest"
    assert model_name(".") == tmp_path.name
