"""Every benchmark runs with `--quick` on real weights and prints its ratios, or says which peer it lacks.

The numbers are not compared with anything: the machine of a nightly run is not the one of the results. Peers are not
installed here; `benchmarks/peers.sh NAME` does that.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"
WEIGHTS = Path(os.environ.get("QIANWEN_TEST_WEIGHTS", "~/.cache/qianwen-weights")).expanduser()
BENCHMARK_DATA = os.environ.get("QIANWEN_BENCHMARKS", "")
RATIO = re.compile(r"^ratio \S+ -?[\d.]+$", re.MULTILINE)
SKIPPED = re.compile(r"^skipped: .+$", re.MULTILINE)
# Parts of a benchmark: run by another script, by a peer's Python, or with a corpus that no machine has by itself.
PARTS = {
    "agents_page", "agents_peer", "datatrove_peer", "filter_crawl", "filter_labels", "llama_files", "llama_peer",
    "llama_python", "lm_eval_peer",
    "measured", "pairs", "peers",
    "memo_rows", "memo_summary", "memo_texts", "memo_training",
    "planted", "texts",
}  # fmt: skip


@pytest.fixture(scope="module")
def model() -> str:
    files = sorted(WEIGHTS.glob("*0.5b*.gguf"))
    if not files:
        pytest.skip(f"no GGUF file of the 0.5B in {WEIGHTS}; QIANWEN_TEST_WEIGHTS names another folder")
    return str(files[0])


def text(folder: Path) -> str:
    """`NAME=FILE` of a text of a few thousand tokens."""
    from pydoc_data.topics import topics

    path = folder / "english.txt"
    path.write_text("\n".join(topics.values())[:20_000], encoding="utf-8")
    return f"english={path}"


def calls(folder: Path) -> str:
    """Dialogues in which a question needs one of six tools, or none."""
    rows = []
    for number in range(48):
        name = ("weather", "time", "news", "route", "price", "stock")[number % 6]
        function = {
            "name": name,
            "description": f"The {name} of a city.",
            "parameters": {"type": "object", "properties": {}},
        }
        question = {"role": "user", "content": f"请告诉我第 {number} 座城市的 {name}。"}
        call = {"id": "1", "type": "function", "function": {"name": name, "arguments": "{}"}}
        answers = [
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "17", "tool_call_id": "1"},
            {"role": "assistant", "content": "是 17。"},
        ]
        tools = [{"type": "function", "function": function}]
        rows.append({"messages": [question, *answers], "tools": tools})
    path = folder / "calls.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def labels(folder: Path) -> list[str]:
    """Labelled texts of both languages for the filters; each label has words of its own."""
    words = {
        "en": {"good": "the river of history", "low": "BUY NOW cheap!!!", "unfit": "kill you idiot"},
        "zh": {"good": "历史的长河", "low": "赶快购买特价", "unfit": "杀了你这个白痴"},
    }
    options = []
    for name, start in (("train", 0), ("test", 5000)):
        rows = [
            {
                "text": f"{words[lang][label]} {number} " * 8,
                "label": label,
                "lang": lang,
                "source": f"{name}{number % 5}",
            }
            for number in range(start, start + 320)
            for lang in words
            for label in words[lang]
        ]
        path = folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
        options += [f"--{name}", str(path)]
    return options


Arguments = Callable[[str, Path], list[str]]
ARGUMENTS: dict[str, Arguments] = {
    "agents": lambda model, folder: [],
    "agents_real": lambda model, folder: ["--model", model, "--formats", "own", "--page", "no"],
    "chat_templates": lambda model, folder: ["--weights", str(WEIGHTS), "--conversations", "20"],
    "personal_data": lambda model, folder: [],
    "batch_invariance": lambda model, folder: ["--model", model],
    "curation": lambda model, folder: [],
    "decode_roofline": lambda model, folder: ["--model", model],
    "dedup": lambda model, folder: [],
    "eval_speed": lambda model, folder: ["--model", model],
    "eval_vs_lm_eval": lambda model, folder: ["--model", model, "--data", BENCHMARK_DATA],
    "export_types": lambda model, folder: ["--model", model],
    "evaluate_weights": lambda model, folder: ["--weights", str(WEIGHTS), "--data-dir", BENCHMARK_DATA],
    "filters": lambda model, folder: labels(folder),
    "finetune": lambda model, folder: ["--model", model, "--methods", "lora"],
    "growth": lambda model, folder: ["--pairs", "2"],
    "inference_vs_llama_cpp": lambda model, folder: ["--model", model, "--measure", "speed"],
    "long_context": lambda model, folder: ["--model", model],
    "inference_vs_transformers": lambda model, folder: ["--model", model, "--bits", "4"],
    "memory": lambda model, folder: ["--generate", "1.8b:4", "--tokens", "64"],
    "pretrain_throughput": lambda model, folder: ["--peers", "bf16"],
    "quantization": lambda model, folder: ["--model", model, "--texts", text(folder), "--variants", "bf16,rtn,gptq",
                                           "--calibration", calls(folder)],
    "serving": lambda model, folder: ["--model", model, "--clients", "1"],
    "sft": lambda model, folder: [],
    "start": lambda model, folder: ["--model", model],
    "system_prompts": lambda model, folder: ["--model", model, "--out", str(folder / "out")],
    "tokenizer_throughput": lambda model, folder: [],
    "tool_calls": lambda model, folder: ["--model", model, "--data", calls(folder), "--methods", "lora"],
}  # fmt: skip
TABLES = {"chat_templates", "evaluate_weights", "personal_data"}  # print shares that are right, and no peer's
# `bits_and_adapters` needs MMLU and GSM8K, and trains four adapters; its parts are in `quantization` and `tool_calls`.
# `memo_long_context` needs a corpus with documents of more than 8,192 tokens, and trains several models.
# `sft_curve` trains an adapter of the 135M for each number of rows.
TOO_LONG = {"bits_and_adapters", "memo_long_context", "sft_curve"}


def test_every_benchmark_is_run() -> None:
    scripts = {path.stem for path in BENCHMARKS.glob("*.py")}
    assert scripts == ARGUMENTS.keys() | PARTS | TOO_LONG


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ARGUMENTS)
def test_it_prints_its_ratios(name: str, model: str, tmp_path: Path) -> None:
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "QIANWEN_PEERS": "installed",
        "QIANWEN_RUNS": str(tmp_path / "runs"),
    }
    command = [sys.executable, str(BENCHMARKS / f"{name}.py"), "--quick", *ARGUMENTS[name](model, tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-3000:]
    if reason := SKIPPED.search(done.stdout):
        pytest.skip(reason[0])
    assert name in TABLES or RATIO.search(done.stdout), done.stdout[-3000:]
