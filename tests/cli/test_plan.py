"""`qianwen plan`: parts, published figures and this machine, for sizes, files and slips."""

import pytest

from qianwen.checkpoints.hf_weights import save_weights
from qianwen.cli import main
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen


def test_a_published_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "7b", "--task", "qlora", "--seq-len", "512", "--gpus", "2"]) == 0
    said = capsys.readouterr().out
    assert "activations" in said and "all devices" in said and "11.50" in said and "on this machine" in said
    assert main(["plan", "1.8b"]) == 0
    said = capsys.readouterr().out
    assert "keys and values" in said and "2.91" in said


def test_a_folder_of_no_published_size(tmp_path, capsys: pytest.CaptureFixture[str]) -> None:
    config = QwenConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
    save_weights(Qwen(config).init_weights(0), tmp_path / "small")
    assert main(["plan", str(tmp_path / "small"), "--task", "full", "--keep-activations"]) == 0
    said = capsys.readouterr().out
    assert "published GB" not in said and "fits" in said


def test_slips_get_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nothing"]) == 1 and "nothing is not a model" in capsys.readouterr().err
    assert main(["plan", "7b", "--seq-len", "0"]) == 1 and "at least 1" in capsys.readouterr().err
