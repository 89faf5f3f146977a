"""`qianwen eval` on a small random model: in this process, and behind the URL of a server in another process."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from qianwen.align.corpus_questions import Pair
from qianwen.checkpoints.hf_folder import write_folder
from qianwen.cli import main
from qianwen.eval.results import load_results
from qianwen.model.config import QwenConfig
from qianwen.model.transformer import Qwen
from qianwen.runtime.files import atomic_folder, write_jsonl
from qianwen.tokenizer.tokenizer import Tokenizer
from qianwen.tokenizer.vocab import QWEN_PATTERN, Vocabulary


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chat model over bytes and letters, with a recommended repetition penalty, and the data of three tasks."""
    root = tmp_path_factory.mktemp("eval")
    tokens = [*(bytes([value]) for value in range(256)), *(f" {letter}".encode() for letter in "ABCD")]
    specials = {name: len(tokens) + n for n, name in enumerate(("<|endoftext|>", "<|im_start|>", "<|im_end|>"))}
    tokenizer = Tokenizer(Vocabulary({token: n for n, token in enumerate(tokens)}, specials, QWEN_PATTERN))
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = Qwen(QwenConfig(vocab_size=263, max_position_embeddings=1024, **shape)).init_weights(0)
    generation = {"repetition_penalty": 1.3, "temperature": 0.7, "top_k": 5}
    with atomic_folder(root / "tiny") as made:
        write_folder(model, tokenizer, made, chat=True, generation=generation)
    pairs = [Pair(f"{i} + 2?", f"{i} + 2 = {i + 2}.", "arithmetic", r"\d") for i in range(20)]
    write_jsonl(root / "pairs.jsonl", [pair.row() for pair in pairs])
    (root / "text.txt").write_text("some text to predict")
    for split in ("test", "dev"):
        (root / "mmlu" / split).mkdir(parents=True)
        rows = "".join(f"Is it {number}?,1,2,3,4,{'ABCD'[number % 4]}\n" for number in range(7))
        (root / "mmlu" / split / f"anatomy_{split}.csv").write_text(rows)
    return root


@pytest.fixture(autouse=True)
def _here(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("QIANWEN_RUNS", str(tmp_path / "runs"))
    monkeypatch.delenv("QIANWEN_KEY", raising=False)


def evaluate(folder: Path, *argv: str, model: str = "") -> int:
    return main(["eval", model or str(folder / "tiny"), *argv])


def questions(folder: Path, *argv: str, model: str = "") -> int:
    return evaluate(folder, "questions", "--data", str(folder / "pairs.jsonl"), *argv, model=model)


def test_a_table_and_a_folder_come_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert questions(folder) == 0
    out = capsys.readouterr().out
    assert "exact_match" in out and "chance" in out and "runs/eval/tiny" in out
    results = load_results("runs/eval/tiny")
    assert len(results.tasks["questions"].rows) == 20 and len(results.settings["weights"]) == 64
    assert evaluate(folder, "text", "--data", str(folder / "text.txt")) == 0
    assert "bits_per_byte" in capsys.readouterr().out
    assert evaluate(folder, "mmlu", "--data-dir", str(folder), "--shots", "3") == 0
    results = load_results("runs/eval/tiny")
    assert set(results.tasks) == {"questions", "text", "mmlu"}
    assert results.tasks["mmlu"].chance == 0.25 and len(results.tasks["mmlu"].rows) == 7


def test_tasks_with_their_own_prompts_need_no_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder, "safety-zh", "--limit", "2") == 0
    results = load_results("runs/eval/tiny")
    assert set(results.tasks["safety-zh"].metrics) >= {"compliance", "over_refusal"}
    assert evaluate(folder, "safety-en", "--data", str(folder)) == 1
    assert "leave out --data" in capsys.readouterr().err


def test_the_same_command_goes_on_and_another_setting_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert questions(folder, "--limit", "5", "--out", "r") == 0
    assert questions(folder, "--out", "r") == 0
    assert "15 examples" in capsys.readouterr().out
    assert questions(folder, "--out", "r", "--exact") == 1
    assert "exact = False, not True" in capsys.readouterr().err
    assert questions(folder, "--out", "r", "--exact", "--restart", "--batch", "3") == 0
    assert load_results("r").settings["exact"]


@pytest.mark.parametrize(
    ("argv", "complaint"),
    [
        (["questions", "text", "--data", "x"], "--data is the data of one task; give --data-dir"),
        (["questions", "--data", "absent.jsonl"], "absent.jsonl"),
        (["questions", "--samples", "0"], "--samples must be at least 1; got 0"),
        (["question"], "there is no task question; choose one of"),
        (
            ["questions", "--data", "PAIRS", "--lengths", "8"],
            "--lengths and --languages are for the tasks perplexity-by-length, needle, ruler",
        ),
        (["needle", "--data", "TEXT"], "has no folder `haystack`"),
        (["needle", "--languages", "fr"], "needle has no texts in the language fr; choose from en, zh"),
        (["needle", "--url", "http://127.0.0.1:9/v1"], "needle needs the tokenizer"),
        (["questions", "--url", "ftp://x", "--data", "PAIRS"], "ftp://x is not a URL"),
        (["questions", "--url", "http://127.0.0.1:9/v1", "--bits", "4", "--data", "PAIRS"], "settings of the server"),
        (["text", "--url", "http://127.0.0.1:9/v1", "--data", "TEXT"], "text needs likelihoods"),
    ],
)
def test_slips_get_one_clear_line_before_a_model_is_loaded(
    folder: Path, capsys: pytest.CaptureFixture[str], argv: list[str], complaint: str
) -> None:
    files = {"PAIRS": folder / "pairs.jsonl", "TEXT": folder / "text.txt"}
    assert evaluate(folder, *(str(files.get(arg, arg)) for arg in argv), model="no-such-model") == 1
    assert complaint in capsys.readouterr().err and not Path("runs").exists()


def test_a_needle_is_asked_at_every_depth_and_length_and_its_grid_is_printed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "haystack").mkdir()
    (tmp_path / "haystack" / "en.txt").write_text("".join(f"House {n} is empty. " for n in range(100)))
    options = [
        "--languages",
        "en",
        "--lengths",
        "500",
        "700",
        "--data-dir",
        str(tmp_path),
        "--out",
        "r",
        "--bits",
        "None",
    ]
    assert evaluate(folder, "needle", *options) == 0
    out = capsys.readouterr().out
    assert "accuracy/700" in out and "needle en, %" in out and "500  700" in " ".join(out.split(" "))
    assert (Path("r") / "needle-en.svg").exists() and len(load_results("r").tasks["needle"].rows) == 22


def test_without_a_task_the_tasks_are_listed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(folder) == 2
    assert "mmlu" in capsys.readouterr().out


def test_ctrl_c_prints_how_to_go_on(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from qianwen.eval import evaluation

    append = evaluation.AnswersFile.append

    def interrupted(self, row) -> None:
        append(self, row)
        if row["index"] == 7:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(evaluation.AnswersFile, "append", interrupted)
        assert questions(folder, "--restart") == 130
    out = capsys.readouterr().out
    assert f"to continue: qianwen eval {folder / 'tiny'} questions" in out and "--restart" not in out
    assert questions(folder) == 0
    assert len(load_results("runs/eval/tiny").tasks["questions"].rows) == 20


@contextmanager
def served(folder: Path, *argv: str) -> Iterator[str]:
    """The URL of `qianwen serve` in another process."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "qianwen", "serve", f"mine={folder / 'tiny'}", "--port", str(port), "--no-ui"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (folder / "server.txt").open("w") as log:
        server = subprocess.Popen(
            [*command, "--store", str(folder / "serve.sqlite"), *argv], stdout=log, stderr=log, env=environment
        )
    try:
        url, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 90
        while time.monotonic() < deadline:
            assert server.poll() is None, (folder / "server.txt").read_text()
            with suppress(httpx.TransportError):
                if httpx.get(f"{url}/ready", trust_env=False).status_code == 200:
                    break
            time.sleep(0.1)
        yield f"{url}/v1"
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(60)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_served_model_gives_the_same_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also with the model's own repetition penalty and temperature, which neither side may apply."""
    with served(folder, "--batch-invariant") as url:
        assert questions(folder, "--url", url, "--out", "remote", model="mine") == 0
        assert questions(folder, "--exact", "--out", "here") == 0
        chat = ("mmlu-chat", "--data-dir", str(folder))
        assert evaluate(folder, *chat, "--url", url, "--out", "remote", model="mine") == 0
        assert evaluate(folder, *chat, "--exact", "--out", "here") == 0
        for name in ("questions", "mmlu-chat"):
            assert Path(f"remote/answers/{name}.jsonl").read_bytes() == Path(f"here/answers/{name}.jsonl").read_bytes()
        assert json.loads(Path("remote/settings.json").read_text())["left_to_the_server"] == []
        capsys.readouterr()
        for name in ("mmlu", "mmlu-chat mmlu", "mmlu-shot-orders"):
            tasks = name.split()
            assert evaluate(folder, *tasks, "--data-dir", str(folder), "--url", url, "--out", "y", model="mine") == 1
            assert f"{tasks[-1]} needs likelihoods" in capsys.readouterr().err and not Path("y").exists()
        assert questions(folder, "--url", url, "--out", "x", model="other") == 1
        assert "other" in capsys.readouterr().err
