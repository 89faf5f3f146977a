"""`qianwen pretrain`: from arguments to a run, and what it says when they do not fit."""

import json

import pytest

from qianwen.cli import main
from qianwen.runtime.files import RunFolder
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.train import train_vocabulary

RECIPE = """
from qianwen.model import QwenConfig
from qianwen.train.loop import LoopConfig
from qianwen.train.pretrain import PretrainConfig

def small() -> PretrainConfig:
    shape = QwenConfig(vocab_size=600, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2)
    loop = LoopConfig(steps=9, sequences_per_step=2, micro_batch_size=2, lr=1e-3)
    return PretrainConfig(name="small", data="corpus", vocabulary="tokenizer", model=shape, seq_len=16, loop=loop)
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A folder with a recipe, a corpus and a tokenizer in it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "cli_recipe.py").write_text(RECIPE)
    text = "one and two and three, again and again and again. " * 40
    (tmp_path / "corpus").mkdir()
    (tmp_path / "corpus" / "a.txt").write_text(text)
    (tmp_path / "tokenizer").mkdir()
    Tokenizer(train_vocabulary([text], 480)).save(tmp_path / "tokenizer")
    return tmp_path


def test_runs_a_recipe_with_changed_fields(here, capsys):
    assert main(["pretrain", "cli_recipe:small", "--loop.steps", "2", "--name", "two"]) == 0
    assert RunFolder.open("two").config["loop"]["steps"] == 2
    assert "next: qianwen generate" in capsys.readouterr().out
    assert (here / "runs" / "two" / "model" / "model.safetensors").exists()


def test_an_unknown_field_gets_a_suggestion(here, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["pretrain", "cli_recipe:small", "--loop.stepz", "2"])
    assert stopped.value.code == 2
    assert "--loop.steps" in capsys.readouterr().err


def test_resume_needs_a_run(here, capsys):
    assert main(["pretrain", "cli_recipe", "--resume"]) == 1
    assert "no run small to resume" in capsys.readouterr().err


def test_without_a_recipe_it_explains_itself(capsys):
    assert main(["pretrain"]) == 2
    assert main(["pretrain", "--help"]) == 0
    assert "--from MODEL" in capsys.readouterr().out


@pytest.mark.parametrize("size", [470, 520, 700])
def test_the_vocabulary_sets_the_size_of_the_model(here, capsys, size):
    """Smaller or larger than the recipe's 600 tokens."""
    text = " ".join(f"word{i} {i * i}" for i in range(500))
    tokenizer = Tokenizer(train_vocabulary([text], size))
    tokenizer.save(here / "other")
    options = ["--vocabulary", "other", "--loop.steps", "1"]
    assert main(["pretrain", "cli_recipe", *options]) == 0
    config = json.loads((here / "runs" / "small" / "model" / "config.json").read_text())
    assert tokenizer.vocab_size <= config["vocab_size"] < tokenizer.vocab_size + 64
    assert config["vocab_size"] % 64 == 0 and "the model has" in capsys.readouterr().out
    assert main(["pretrain", "cli_recipe", *options]) == 0  # the same command continues


def test_a_size_on_the_command_line_wins(here):
    options = ["--vocabulary", "./tokenizer", "--model.vocab-size", "1000", "--loop.steps", "1"]
    assert main(["pretrain", "cli_recipe", *options]) == 0
    assert RunFolder.open("small").config["model"]["vocab_size"] == 1000


def test_a_failed_run_leaves_no_tokens_of_another_vocabulary(here, capsys):
    tiny = ["--model.vocab-size", "32", "--loop.steps", "1"]
    assert main(["pretrain", "cli_recipe", *tiny]) == 1
    assert "the model has 32 tokens" in capsys.readouterr().err
    assert "but the model has 32 tokens" in RunFolder.open("small").record["error"]
    assert main(["pretrain", "cli_recipe", "--vocabulary", "./tokenizer", "--loop.steps", "1"]) == 0


def test_a_vocabulary_beside_from_is_refused(here, capsys):
    assert main(["pretrain", "cli_recipe", "--loop.steps", "1"]) == 0
    start = ["--from", "small", "--name", "more", "--vocabulary", "./tokenizer"]
    assert main(["pretrain", "cli_recipe", *start]) == 1
    assert "--vocabulary ./tokenizer has no effect with --from" in capsys.readouterr().err


def test_sequences_beyond_the_model_are_refused(here, capsys):
    assert main(["pretrain", "cli_recipe", "--loop.steps", "1"]) == 0
    length = RunFolder.open("small").record["config"]["model"]["max_position_embeddings"]
    start = ["--from", "small", "--name", "more", "--seq-len", str(length + 1)]
    assert main(["pretrain", "cli_recipe", *start]) == 1
    message = capsys.readouterr().err
    assert f"use --seq-len {length}, or" in message and "qianwen extend" in message


@pytest.mark.parametrize(
    "argv",
    [
        ["--from", "small"], ["--from=small"], ["--vocabulary", "tokenizer"], ["--resume"], ["-x"],
        ["--loop.steps", "3", "tiny"],
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["pretrain", "sft"])
def test_an_option_in_the_place_of_the_recipe(capsys, command, argv):
    assert main([command, *argv]) == 1
    message = capsys.readouterr().err
    assert "is missing" in message and argv[0].partition("=")[0] in message and "Traceback" not in message
