"""`qianwen models`: every place and every kind, damaged models, and the JSON form."""

import json
import os
from pathlib import Path

import pytest

from qianwen.checkpoints.adapter_folder import write_adapter
from qianwen.checkpoints.gguf.network import write_model
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.cli import main
from qianwen.model.config import QwenConfig
from qianwen.model.linears.lora import LoraConfig, attach
from qianwen.model.transformer import Qwen
from qianwen.runtime import device
from qianwen.runtime.files import RunFolder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary

NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<tool_call>")
CONFIG = QwenConfig(
    vocab_size=272, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
    max_position_embeddings=4096,
)  # fmt: skip
COMMIT = "c291d6fce4804a1d39305f388dd32897d1f7acc4"


def tokenizer() -> Tokenizer:
    ranks = {bytes([value]): value for value in range(256)}
    return Tokenizer(Vocabulary(ranks, {name: 256 + number for number, name in enumerate(NAMES)}))


def network() -> Qwen:
    return Qwen(CONFIG).init_weights(0).eval()


def save_gguf(path: Path, type: str = "F16") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    extra = {"tokenizer.ggml.eos_token_id": 258}
    write_model(network(), tokenizer().vocabulary, path, type=type, extra=extra)  # type: ignore[arg-type]


def save_in_hub(root: Path, name: str) -> Path:
    """An empty repository in a hub cache; returns the folder of its only snapshot."""
    repository = root / f"models--{name.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "blobs").mkdir()
    folder = repository / "snapshots" / COMMIT
    folder.mkdir(parents=True)
    return folder


def save_run(name: str, *, adapter: bool = False) -> None:
    run = RunFolder.create(name, "sft", {})
    folder = run.path / "model"
    folder.mkdir()
    if adapter:
        write_adapter(attach(network(), LoraConfig(rank=2)), folder, LoraConfig(rank=2), "Qwen/Qwen2.5-0.5B-Instruct")
    else:
        write_folder(network(), tokenizer(), folder, chat=True)
    run.set_state("finished")


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without models, which is also the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache" / "qianwen"))
    monkeypatch.delenv("QIANWEN_RUNS", raising=False)
    monkeypatch.setattr("huggingface_hub.utils._cache_manager.HF_HUB_CACHE", str(tmp_path / "hub"), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path


def listed(capsys: pytest.CaptureFixture) -> dict[str, dict]:
    assert main(["models", "--json"]) == 0
    return {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}


def test_an_empty_disk_says_how_to_get_a_model(disk: Path, capsys: pytest.CaptureFixture) -> None:
    assert listed(capsys) == {}
    assert main(["models"]) == 0 and "qianwen demo" in capsys.readouterr().out


def test_models_of_every_place_and_kind(disk: Path, capsys: pytest.CaptureFixture) -> None:
    write_folder(network(), tokenizer(), save_in_hub(disk / "hub", "Qwen/Small"), chat=True)
    files = save_in_hub(disk / "hub", "Qwen/Small-GGUF")
    save_gguf(files.parents[1] / "blobs" / "0123abcd")
    os.symlink(files.parents[1] / "blobs" / "0123abcd", files / "small-f16.gguf")
    scope = disk / "cache" / "qianwen" / "modelscope" / "Qwen--Scope@master"
    scope.mkdir(parents=True)
    write_folder(network(), tokenizer(), scope, chat=False)
    weights = disk / "cache" / "qianwen-weights"
    save_gguf(weights / "tiny-q8_0.gguf", "Q8_0")
    write_folder(network(), tokenizer(), _made(weights / "folder"), chat=True)
    save_run("service", adapter=True)
    save_run("demo")
    RunFolder.create("empty", "pretrain", {})

    found = listed(capsys)
    linked = str(files / "small-f16.gguf")
    assert set(found) == {
        *("Qwen/Small", linked, "modelscope:Qwen/Scope", str(weights / "tiny-q8_0.gguf"), str(weights / "folder")),
        *("service", "demo"),
    }
    kinds = {name: (entry["place"], entry["kind"], entry["bits"]) for name, entry in found.items()}
    assert kinds["Qwen/Small"] == ("hub", "folder", 32) and kinds[linked] == ("hub", "GGUF", 16)
    assert kinds[str(weights / "tiny-q8_0.gguf")] == ("weights", "GGUF", 8)
    assert kinds["service"] == ("runs", "adapter", None) and kinds["demo"][:2] == ("runs", "folder")
    assert found["service"]["base"] == "Qwen/Qwen2.5-0.5B-Instruct" and found["service"]["fits"] is None
    assert found["demo"]["context"] == 4096 and found["demo"]["fits"] and found["demo"]["fitting_context"] == 4096
    assert found[linked]["size_bytes"] == (files.parents[1] / "blobs" / "0123abcd").stat().st_size
    assert found[linked]["sampling"]["temperature"] == 0.7 and found[linked]["sampling_source"] == "Qwen2.5"
    assert found["modelscope:Qwen/Scope"]["sampling"] == {} and not any(entry["error"] for entry in found.values())
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert all(name in table for name in ("Qwen/Small", "demo", "adapter of", "repetition_penalty 1.05", "neutral"))


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder


def test_what_cannot_be_used_is_listed_with_its_reason(disk: Path, capsys: pytest.CaptureFixture) -> None:
    weights = disk / "cache" / "qianwen-weights"
    save_gguf(weights / "whole.gguf")
    (weights / "pointer.gguf").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    (weights / "cut.gguf").write_bytes((weights / "whole.gguf").read_bytes()[:2000])
    (_made(weights / "bad") / "config.json").write_text("{")
    found = listed(capsys)
    assert "Git LFS" in found[str(weights / "pointer.gguf")]["error"]
    assert found[str(weights / "cut.gguf")]["error"] and "not valid JSON" in found[str(weights / "bad")]["error"]
    assert not found[str(weights / "whole.gguf")]["error"]
    assert main(["models"]) == 0 and "Git LFS" in capsys.readouterr().out


@pytest.mark.parametrize(("free", "fits"), [(0.1e9, False), (0.5006e9, True), (8e9, True)])
def test_what_fits_depends_on_the_free_memory(
    disk: Path, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, free: float, fits: bool
) -> None:
    save_gguf(disk / "cache" / "qianwen-weights" / "m.gguf")
    monkeypatch.setattr(device, "free_memory_bytes", lambda device: free)
    (entry,) = listed(capsys).values()
    assert entry["fits"] == fits and (entry["fitting_context"] == 4096) == (free > 1e9)
    assert main(["models"]) == 0
    table = capsys.readouterr().out
    assert ("no" if not fits else "yes" if free > 1e9 else f"to {entry['fitting_context']:,}") in table
