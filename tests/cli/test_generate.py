import json

import pytest

from qianwen.cli import main
from qianwen.cli.generate import generate_file
from qianwen.engine.llm import LLM
from qianwen.engine.sampling_params import SamplingParams
from qianwen.runtime.errors import ConfigError

from .conftest import tiny


@pytest.fixture
def llm() -> LLM:
    return LLM(*tiny(), defaults=SamplingParams(temperature=0, max_tokens=6))


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_rows(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


ROWS = [
    {"prompt": "one", "id": 7},
    {"messages": [{"role": "user", "content": "two"}]},
    {"prompt": "three", "sampling": {"max_tokens": 2}},
    {"nothing": True},
    {"prompt": "five", "sampling": {"temperature": -1}},
    {"messages": ["six"]},
]


def test_rows_keep_their_order_and_fields(llm, tmp_path):
    source, target = write_rows(tmp_path / "in.jsonl", ROWS * 8), tmp_path / "out.jsonl"
    assert generate_file(llm, source, target) == 1
    results = read_rows(target)
    assert len(results) == 48 and results[:6] * 8 == results
    assert all(result.items() >= row.items() for result, row in zip(results, ROWS * 8, strict=True))
    assert results[0]["usage"]["completion_tokens"] <= 6 and results[2]["finish_reason"] == "length"
    assert ["error" in result for result in results[:6]] == [False] * 3 + [True] * 3


def test_a_cut_run_goes_on(llm, tmp_path):
    source, target = write_rows(tmp_path / "in.jsonl", ROWS[:3]), tmp_path / "out.jsonl"
    assert generate_file(llm, source, target) == 0
    whole = target.read_text()
    first = whole.splitlines(keepends=True)[0]
    target.write_text(first + '{"prompt": "tw')
    generate_file(llm, source, target)
    assert target.read_text() == whole
    generate_file(llm, source, target)  # nothing is left to do
    assert target.read_text() == whole
    with pytest.raises(ConfigError, match="another input"):
        generate_file(llm, write_rows(tmp_path / "short.jsonl", ROWS[:1]), target)


def test_a_row_chooses_how_a_long_text_is_read(llm, tmp_path):
    ropes = ["dynamic_ntk", {"method": "linear", "factor": 2}, {"logn": True}, "none at all", {"method": 1}, ["yarn"]]
    rows = [{"prompt": "ab", "sampling": {"max_tokens": 1}, "rope": rope} for rope in ropes]
    assert generate_file(llm, write_rows(tmp_path / "in.jsonl", rows), tmp_path / "out.jsonl") == 1
    errors = [row.get("error") for row in read_rows(tmp_path / "out.jsonl")]
    assert errors[:3] == [None] * 3 and all(errors[3:])
    assert "must be a method, or an object" in errors[5]


def test_one_prompt(model_folder, capsys):
    arguments = ["generate", str(model_folder), "--prompt", "abc", "--temperature", "0", "--max-tokens", "6"]
    assert main(arguments) == 0
    assert (
        capsys.readouterr().out
        == LLM(*tiny()).generate(["abc"], SamplingParams(temperature=0, max_tokens=6))[0].text + "\n"
    )
    assert main(["generate", str(model_folder)]) == 1
    assert "--prompt" in capsys.readouterr().err


def test_bench_measures(model_folder, tmp_path, capsys):
    path = tmp_path / "speed.jsonl"
    sizes = ["--prompt-tokens", "40", "--new-tokens", "4", "--batches", "1", "3", "--repeats", "1"]
    assert main(["bench", str(model_folder), *sizes, "--json", str(path)]) == 0
    rows = read_rows(path)
    assert [row["batch"] for row in rows] == [1, 3]
    assert all(row["prefill_tokens_per_s"] > 0 and row["decode_tokens_per_s"] > 0 for row in rows)
    assert "prefill tok/s" in capsys.readouterr().out
