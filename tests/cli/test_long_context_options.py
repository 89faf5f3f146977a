"""`--rope`, `--rope-factor`, `--logn`, `--on-growth` and `--windows` of the commands that run a model."""

import io
import json

import pytest

from qianwen.cli import main
from qianwen.cli.arguments import parse
from qianwen.cli.generate import GenerateOptions
from qianwen.cli.long_context_options import LongContextOptions, window_sizes
from qianwen.model.long_context import LongContext
from qianwen.runtime.errors import ConfigError

LONG = "x" * 700  # the model was trained on 512


@pytest.mark.parametrize(
    ("arguments", "extension"),
    [
        ([], LongContext()),
        (["--rope", "yarn", "--rope-factor", "8"], LongContext(rope="yarn", factor=8)),
        (["--rope", "dynamic_ntk", "--logn"], LongContext(rope="dynamic_ntk", logn=True)),
        (["--on-growth", "fixed"], LongContext(on_growth="fixed")),
        (["--no-logn"], LongContext(logn=False)),
    ],
)
def test_options_become_the_extension_of_requests(arguments, extension) -> None:
    assert parse(GenerateOptions, "qianwen generate", ["m", *arguments]).long_context.extension == extension


def test_windows_are_tokens_or_full() -> None:
    assert window_sizes("2048, 4096,full") == (2048, 4096, 0) and window_sizes("") == ()


@pytest.mark.parametrize("windows", ["0", "2048,0", "2048,,full", "-1", "all", "2048;4096", "1e3", "²"])
def test_other_windows_are_refused(windows: str) -> None:
    with pytest.raises(ConfigError, match="2048,4096,full"):
        window_sizes(windows)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rope", "yarn:x"], "yarn:x"),
        (["--rope-factor", "4"], "--rope-factor is for --rope yarn and linear"),
        (["--rope", "yarn", "--rope-factor", "0.5"], "factor = 0.5"),
        (["--rope", "yarn", "--rope-factor", "nan"], "factor = nan"),
        (["--windows", "0"], "number of tokens above 0"),
        (["--windows", "8,16,full"], "3 windows do not fit 2 layers"),
        (["--context", "513"], "--rope dynamic_ntk, which covers 4,096"),
        (["--context", "4097", "--rope", "dynamic_ntk"], "no method covers so many"),
    ],
)
def test_nonsense_is_one_line(model_folder, capsys, arguments: list[str], words: str) -> None:
    try:
        status = main(["generate", str(model_folder), "--prompt", "a", *arguments])
    except SystemExit as error:  # tyro's own
        status = error.code
    said = capsys.readouterr().err
    assert status and words in " ".join(said.split()) and "Traceback" not in said


def test_a_prompt_beyond_the_trained_length_needs_a_method(model_folder, capsys) -> None:
    command = ["generate", str(model_folder), "--prompt", LONG, "--max-tokens", "4", "--temperature", "0"]
    assert main(command) == 1 and "--rope dynamic_ntk --context 701" in capsys.readouterr().err
    answers = set()
    for method in ([], ["--logn"], ["--windows", "16,full"]):
        assert main([*command, "--rope", "dynamic_ntk", "--context", "1024", *method]) == 0
        answers.add(capsys.readouterr().out)
    assert len(answers) > 1
    assert main([*command, "--rope", "none"]) == 1 and "dynamic_ntk" in capsys.readouterr().err


def test_the_chat_notes_once_that_the_trained_length_has_passed(model_folder, monkeypatch, capsys) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(f"{LONG}\nmore\n/reset\n{LONG}\n"))
    options = ["--rope", "dynamic_ntk", "--context", "2048", "--max-tokens", "3", "--seed", "1", "--lines"]
    assert main(["chat", str(model_folder), *options]) == 0
    said = capsys.readouterr().out
    assert said.count("[beyond the trained 512 tokens: extended by dynamic NTK; quality") == 2


def test_a_benchmark_has_the_options(model_folder, tmp_path, capsys) -> None:
    sizes = ["--prompt-tokens", "600", "--new-tokens", "2", "--batches", "1", "--repeats", "1"]
    assert main(["bench", str(model_folder), *sizes]) == 1 and "--rope dynamic_ntk" in capsys.readouterr().err
    extended = ["--rope", "dynamic_ntk", "--windows", "64,full", "--json", str(tmp_path / "speed.jsonl")]
    assert main(["bench", str(model_folder), *sizes, *extended]) == 0
    assert json.loads((tmp_path / "speed.jsonl").read_text())["decode_tokens_per_s"] > 0


def test_the_help_is_in_chinese_too(monkeypatch, capsys) -> None:
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    said = capsys.readouterr().out
    assert "读取超过训练长度的文本。" in said and "Attention windows" not in said


def test_defaults_are_those_of_a_request() -> None:
    assert LongContextOptions().extension == LongContext() and LongContextOptions().window_sizes == ()
