"""`qianwen sft` on a model made here."""

import json
import sys
from pathlib import Path

import pytest

from qianwen.align.corpus_questions import Pair
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.cli import main
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import RunFolder, atomic_folder, write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a random model over bytes; runs go beside it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("QIANWEN_RUNS", raising=False)
    names = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
    specials = {name: 256 + number for number, name in enumerate(names)}
    tokenizer = Tokenizer(Vocabulary({bytes([value]): value for value in range(256)}, specials, QWEN_PATTERN))
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen(QwenConfig(vocab_size=259, max_position_embeddings=128, **shape)).init_weights(0)
    with atomic_folder(tmp_path / "base") as folder:
        write_folder(model, tokenizer, folder, chat=False)
    return tmp_path / "base"


def test_a_model_and_a_file_make_a_chat_model(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pair = Pair("2 + 2?", "2 + 2 = 4.", "arithmetic", r"2 \+ 2 = ")
    write_jsonl("pairs.jsonl", [pair.row()] * 3)
    asked = ["sft", "base", "--data", "pairs.jsonl", "--loop.steps", "3", "--loop.sequences-per-step", "2"]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "⟦2 + 2 = 4.<|im_end|>⟧" in said and "chosen: --method full" in said
    assert "3 dialogues" in said and "next: qianwen chat runs/base-sft/model" in said
    run = RunFolder.open("base-sft")
    assert run.config["seq_len"] == 128 and run.record["state"] == "finished"


def test_an_adapter_from_the_command_line(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_jsonl("pairs.jsonl", [Pair("2 + 2?", "4.", "arithmetic", "4").row()] * 3)
    asked = ["sft", "base", "--data", "pairs.jsonl", "--method", "lora", "--lora.rank", "4", "--loop.steps", "3"]
    assert main(asked) == 0 and main(asked) == 0  # begun or finished, it goes on as it was begun
    assert "LoRA rank 4: " in capsys.readouterr().out
    run = RunFolder.open("base-sft")
    assert run.config["loop"]["lr"] == 3e-4 and run.config["lora"]["target_modules"]
    settings = json.loads((run.path / "model/adapter_config.json").read_text())
    assert settings["base_model_name_or_path"] == str(base) and settings["r"] == 4
    assert main(["generate", "base-sft", "--prompt", "2", "--max-tokens", "3"]) == 0
    assert main(["export", "base-sft", "--to", "whole"]) == 0
    assert Path("whole/config.json").exists()


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["sft", "base", "--data", "absent.jsonl"], "absent.jsonl: no such file"),
        (["sft", "nothing", "--data", "absent.jsonl"], "nothing is not a model"),
        (["sft", "tinny"], "did you mean tiny"),
    ],
)
def test_slips_get_one_clear_line(
    base: Path, capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str
) -> None:
    assert main(argv) == 1
    assert complaint in capsys.readouterr().err


def test_without_arguments_it_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sft"]) == 2 and main(["sft", "--help"]) == 0
    assert "qianwen sft MODEL --data FILE" in capsys.readouterr().out


RECIPE = """
from qianwen.align.sft import SFTConfig
from qianwen.train.loop import LoopConfig


def mine() -> SFTConfig:
    loop = LoopConfig(steps=3, sequences_per_step=2, micro_batch_size=1, lr=1e-3)
    return SFTConfig(name="from-recipe", model="base", data="absent.jsonl", seq_len=128, loop=loop, dropout=0.1)
"""


def test_a_recipe_takes_the_data_of_the_command(
    base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.path", ["", *sys.path])
    Path("my_tuning.py").write_text(RECIPE)
    write_jsonl("sums.jsonl", [Pair(f"{n} + 2?", f"{n + 2}.", "arithmetic", "4").row() for n in range(6)])
    write_jsonl("words.jsonl", [Pair("Define cat.", "An animal.", "definition", "a").row()] * 3)
    files = ["--data", "sums.jsonl", "words.jsonl", "--weights", "3", "1"]
    assert main(["sft", "my_tuning:mine", *files, "--preview"]) == 0
    said = capsys.readouterr().out
    assert "75.0%" in said and "mathematics" in said and "⟦2.<|im_end|>⟧" in said and "3 steps" in said
    assert not Path("runs").exists()
    assert main(["sft", "my_tuning:mine", *files]) == 0
    run = RunFolder.open("from-recipe")
    assert run.config["data"] == ["sums.jsonl", "words.jsonl"] and run.config["weights"] == [3.0, 1.0]
    assert run.record["state"] == "finished" and run.config["dropout"] == 0.1
    assert sum(sum(counts.values()) for counts in run.record["abilities"].values()) == 9
    assert main(["sft", "my_tuning:mine", "--name", "twice", "--data", "sums.jsonl", "sums.jsonl"]) == 1
    assert "sums.jsonl is named twice" in capsys.readouterr().err


def test_several_files_of_a_model_are_previewed_and_mixed(base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        write_jsonl(f"{name}.jsonl", [Pair("2 + 2?", "4.", "arithmetic", "4").row()] * 4)
    argv = ["sft", "base", "--data", "a.jsonl", "b.jsonl", "--loop.steps", "2"]
    assert main([*argv, "--preview"]) == 0
    said = capsys.readouterr().out
    assert said.count("⟦4.<|im_end|>⟧") == 1 and "8 dialogues packed" in said and "a.jsonl" in said
    assert not Path("runs").exists()
    assert main([*argv, "--weights", "1", "0"]) == 1
    assert "the weight of b.jsonl is 0: give a number above 0" in capsys.readouterr().err
