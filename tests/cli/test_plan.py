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


def row(said: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in said.splitlines() if line.strip().startswith(name))


def test_a_length_beyond_the_trained_one_names_its_method(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "7b", "--seq-len", "8192"]) == 0
    assert "trained length" not in capsys.readouterr().out
    assert main(["plan", "7b", "--seq-len", "32768"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "32,768 tokens are more than the trained length of 8,192: read with dynamic_ntk, by default" in said
    assert main(["plan", "qwen2.5-0.5b", "--seq-len", "100000"]) == 0
    assert "--rope dynamic_ntk --context 100000" in " ".join(capsys.readouterr().out.split())
    assert main(["plan", "qwen2.5-0.5b", "--seq-len", "262145"]) == 1
    assert "no method covers 262,145 tokens" in capsys.readouterr().err
    assert main(["plan", "qwen2.5-0.5b", "--seq-len", "262145", "--task", "lora"]) == 0, "training makes it longer"


def test_windows_and_int8_need_less_memory_for_keys_and_values(capsys: pytest.CaptureFixture[str]) -> None:
    sizes = []
    for option in ([], ["--windows", "2048,4096,full"], ["--kv-cache-dtype", "int8"], ["--kv-cache-dtype", "bfloat16"]):
        assert main(["plan", "1.8b", "--seq-len", "8192", *option]) == 0
        sizes.append(row(capsys.readouterr().out, "keys and values"))
    full, windowed, int8, bfloat16 = sizes
    assert windowed == pytest.approx(full * (2048 + 4096 + 8192) / 3 / 8192, abs=0.01)
    assert bfloat16 == full and int8 == pytest.approx(full * (128 + 4) / 256, abs=0.01)


def test_slips_get_one_clear_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "nothing"]) == 1 and "nothing is not a model" in capsys.readouterr().err
    assert main(["plan", "7b", "--seq-len", "0"]) == 1 and "at least 1" in capsys.readouterr().err
    assert main(["plan", "7b", "--windows", "x"]) == 1 and "2048,4096,full" in capsys.readouterr().err


def test_a_recipe_gives_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "qwen_1_8b:sft", "--gpus", "2"]) == 0
    said = capsys.readouterr().out
    assert "qwen_1_8b:sft: full, 2048 tokens" in said and "all devices" in said
    assert main(["plan", "qwen_1_8b:sft", "--task", "lora", "--seq-len", "512"]) == 0
    assert "qwen_1_8b:sft: lora, 512 tokens" in capsys.readouterr().out


def test_a_released_model_needs_no_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "Qwen/Qwen-1_8B"]) == 0 and "compared with the published peaks" in capsys.readouterr().out
