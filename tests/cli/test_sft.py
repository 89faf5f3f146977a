"""`qianwen sft` and `qianwen eval` on a model made here."""

import json
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

    assert main(["eval", "base-sft", "questions", "--data", "pairs.jsonl", "--out", "found.json"]) == 0
    assert "exact_match" in capsys.readouterr().out
    assert len(json.loads(Path("found.json").read_text())["results"][0]["answered"]) == 3
    Path("text.txt").write_text("some text to predict")
    assert main(["eval", "base-sft", "text", "--data", "text.txt"]) == 0
    assert "bits_per_byte" in capsys.readouterr().out


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
        (["eval", "base", "texts"], "there is no task texts; choose one of text, questions, mmlu"),
        (["eval", "base", "gsm8k"], "gsm8k needs --data"),
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
