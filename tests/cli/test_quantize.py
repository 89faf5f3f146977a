"""`qianwen quantize` as a user types it, on a model made here."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from qianwen.checkpoints.hf_folder import write_folder
from qianwen.cli import main
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import atomic_folder, write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import Vocabulary, qwen_special_tokens
from qianwen.train.checkpoint import Checkpoints
from qianwen.train.state import TrainState


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder `base` with a random model over bytes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_CACHE", str(tmp_path / "cache"))
    tokenizer = Tokenizer(Vocabulary({bytes([byte]): byte for byte in range(256)}, qwen_special_tokens(256)))
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen(QwenConfig(vocab_size=464, max_position_embeddings=256, **shape)).init_weights(0)
    with atomic_folder("base") as folder:
        write_folder(model, tokenizer, folder, chat=True)


def bits_of(folder: str) -> int:
    return json.loads(Path(folder, "config.json").read_text())["quantization_config"]["bits"]


def test_on_dialogues(capsys: pytest.CaptureFixture[str]) -> None:
    row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}
    write_jsonl("dialogues.jsonl", [row] * 5)
    asked = ["quantize", "base", "--to", "small", "--data", "dialogues.jsonl", "--samples", "3", "--group-size", "32"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "calibrating on 3 texts" in said and "over 64 prompts" in said and "qianwen chat small" in said
    assert bits_of("small") == 4
    assert main(["generate", "small", "--prompt", "2", "--max-tokens", "3"]) == 0


def test_to_nearest_and_on_its_own_texts(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quantize", "base", "--to", "near", "--method", "rtn", "--bits", "8", "--group-size", "-1"]) == 0
    assert bits_of("near") == 8 and "calibrating" not in capsys.readouterr().out
    assert main(["quantize", "base", "--to", "own", "--samples", "4", "--group-size", "32"]) == 0
    assert "no --data" in capsys.readouterr().out and bits_of("own") == 4


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["base", "--to", "out", "--data", "absent.jsonl"], "absent.jsonl: no such file"),
        (["base", "--to", "out", "--group-size", "50"], "group_size = 50"),
        (["nothing", "--to", "out"], "nothing is not a model"),
    ],
)
def test_slips_get_one_clear_line(capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str) -> None:
    assert main(["quantize", *argv]) == 1
    assert complaint in capsys.readouterr().err
    assert not Path("out").exists()


def test_scales_are_tuned_after_or_later(capsys: pytest.CaptureFixture[str]) -> None:
    common = ["--data", "dialogues.jsonl", "--samples", "3", "--group-size", "32"]
    row = {"messages": [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4."}]}
    write_jsonl("dialogues.jsonl", [row] * 5)
    assert main(["quantize", "base", "--to", "both", "--tune", "3", *common]) == 0
    said = capsys.readouterr().out
    assert "tuning on 5 texts" in said and "tuning step 3" in said and bits_of("both") == 4
    assert main(["quantize", "base", "--to", "plain", *common]) == 0
    assert main(["quantize", "base", "--to", "later", "--codes", "plain", "--tune", "3", *common[:2]]) == 0
    both, later, plain = (load_file(f"{name}/model.safetensors") for name in ("both", "later", "plain"))
    for name, tensor in plain.items():
        is_scale = name.endswith("scales")
        assert [torch.equal(tensor, tuned[name]) for tuned in (both, later)] == [not is_scale] * 2, name


def test_a_tuning_that_was_stopped_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write_jsonl("texts.jsonl", [{"text": f"{number} and {number} are {2 * number}. " * 9} for number in range(40)])
    asked = ["quantize", "base", "--data", "texts.jsonl", "--samples", "3", "--group-size", "32", "--tune", "4", "--to"]
    assert main([*asked, "whole"]) == 0

    def full(self: Checkpoints, state: TrainState) -> None:
        save(self, state)
        raise KeyboardInterrupt

    save = Checkpoints.save
    with monkeypatch.context() as patched:
        patched.setattr("qianwen.quantize.tune_scales.LOG_STEPS", 2)
        patched.setattr(Checkpoints, "save", full)
        assert main([*asked, "out"]) == 130
    assert "2 steps of tuning are saved in out.unfinished" in capsys.readouterr().out and not Path("out").exists()
    assert main([*asked, "out", "--group-size", "64"]) == 1
    assert "made with another value of options.group_size" in capsys.readouterr().err
    assert main([*asked, "out"]) == 0
    said = capsys.readouterr().out
    assert "continuing after 2 steps of tuning in out.unfinished" in said and "quantising" not in said
    assert Path("out/model.safetensors").read_bytes() == Path("whole/model.safetensors").read_bytes()
    assert not Path("out.unfinished").exists()


@pytest.mark.parametrize(
    ("extra", "complaint"),
    [
        (["--codes", "near"], "add --tune STEPS"),
        (["--codes", "near", "--tune", "2", "--bits", "8"], "--bits applies to new codes"),
        (["--codes", "base", "--tune", "2"], "base is not a GPTQ folder"),
        (["--codes", "nothing", "--tune", "2"], "nothing is not a model"),
        (["--tune", "-1"], "tune = -1"),
    ],
)
def test_slips_in_tuning(capsys: pytest.CaptureFixture[str], extra: list[str], complaint: str) -> None:
    assert main(["quantize", "base", "--to", "near", "--method", "rtn", "--group-size", "32"]) == 0
    assert main(["quantize", "base", "--to", "out", *extra]) == 1
    assert complaint in capsys.readouterr().err and not Path("out").exists()
