"""`qianwen eval MODEL --table` and `--harness`, as a user types them, on a small random model."""

import json
from pathlib import Path

import pytest

from qianwen import cli
from qianwen.eval.tables import DASH
from qianwen.runtime.files import write_jsonl

CSV = [("ceval", "val", "law"), ("ceval", "dev", "law"), ("mmlu", "test", "anatomy"), ("mmlu", "dev", "anatomy")]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """C-Eval and MMLU with one subject each, and nothing else."""
    folder = tmp_path / "data"
    rows = [f"What is {number}?,one,two,three,four,{'ABCD'[number % 4]}" for number in range(6)]
    for name, split, subject in CSV:
        path = folder / name / split / f"{subject}_{split}.csv"
        path.parent.mkdir(parents=True)
        if name == "ceval":
            lines = ["id,question,A,B,C,D,answer,explanation", *(f"{i},{row}," for i, row in enumerate(rows))]
        path.write_text("\n".join(lines if name == "ceval" else rows) + "\n")
    return folder


def run(*arguments: object) -> int:
    return cli.main(["eval", *map(str, arguments)])


def table(folder: Path, document: str, name: str) -> dict:
    saved = json.loads((folder / f"table_{document}.json").read_text("utf-8"))
    return next(table for table in saved["tables"] if table["name"] == name)


def ours(made: dict) -> dict[str, dict]:
    return dict(zip(made["columns"], made["rows"][-1]["cells"], strict=True))


def test_a_table_has_what_could_be_run_and_says_why_of_the_rest(model_folder, data, tmp_path, capsys) -> None:
    """The model's vocabulary has bytes alone: " A", a letter of MMLU, is two tokens."""
    out = tmp_path / "out"
    arguments = ["ceval", "mmlu", "wmt22-zh-en", "--table", "memo", "--data-dir", data, "--limit", 4]
    assert run(model_folder, *arguments, "--out", out) == 0
    printed = capsys.readouterr().out
    assert "wmt22-zh-en is left out" in printed and "Baichuan-13B" in printed
    assert ours(table(out, "memo", "memo-1"))["Average"]["num_examples"] == 4
    mmlu = ours(table(out, "memo", "memo-3"))["Average"]
    assert mmlu["text"] == DASH and "must be one token" in mmlu["reason"]
    assert "generaltest2022" in ours(table(out, "memo", "memo-6"))["zh-en"]["reason"]
    assert ours(table(out, "memo", "memo-5"))["Accuracy"]["reason"] == "gsm8k: not run"
    assert "| **" in (out / "table_memo.md").read_text("utf-8")


def test_earlier_results_stay_in_the_table(model_folder, data, tmp_path) -> None:
    out = tmp_path / "out"
    assert run(model_folder, "ceval", "--table", "models", "--data-dir", data, "--out", out, "--limit", 2) == 0
    assert ours(table(out, "models", "models-base"))["C-Eval"]["num_examples"] == 2
    assert ours(table(out, "models", "models-base"))["MBPP"]["reason"] == "mbpp: not run"
    assert run(model_folder, "cmmlu", "--table", "models", "--data-dir", tmp_path, "--out", out, "--limit", 2) == 0
    assert ours(table(out, "models", "models-base"))["C-Eval"]["num_examples"] == 2


def test_other_settings_in_the_same_folder_are_refused(model_folder, data, tmp_path, capsys) -> None:
    arguments = ["ceval", "--table", "memo", "--data-dir", data, "--limit", 2, "--out", tmp_path / "out"]
    assert run(model_folder, *arguments) == 0
    assert run(model_folder, *arguments, "--shots", 2) == 1
    assert "--restart" in capsys.readouterr().err


def test_without_any_data_every_cell_is_a_dash_and_no_model_is_loaded(tmp_path, capsys) -> None:
    out = tmp_path / "out"
    assert run("no-such-model", "--table", "memo", "--data-dir", tmp_path, "--out", out) == 0
    for each in json.loads((out / "table_memo.json").read_text("utf-8"))["tables"]:
        assert all(cell["text"] == DASH and cell["reason"] for cell in each["rows"][-1]["cells"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--table", "novel"], "there is no table novel; choose one of memo, blog, models"),
        (["mmlu", "--table", "novel"], "there is no table novel"),
        (["nonsense", "--table", "memo"], "there is no task nonsense"),
        (["--harness", "arc_easy", "--url", "http://127.0.0.1:1/v1"], "--harness needs a model that runs here"),
    ],
)
def test_what_cannot_be_is_one_line(model_folder, capsys, arguments, message) -> None:
    assert run(model_folder, *arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.err and "Traceback" not in captured.err


@pytest.mark.filterwarnings("default")
def test_tasks_of_lm_eval_run(model_folder, tmp_path, capsys, monkeypatch) -> None:
    pytest.importorskip("lm_eval", reason="needs lm-eval, of the extra `lm-eval`")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    data = tmp_path / "rows.jsonl"
    write_jsonl(data, [{"text": "1 + 1 =", "choices": ["2", "3"], "target": 0}] * 3)
    (tmp_path / "sums.yaml").write_text(
        f"task: sums\ndataset_path: json\ndataset_kwargs: {{data_files: {{test: {json.dumps(str(data))}}}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: text\ndoc_to_choice: choices\n"
        "doc_to_target: target\n"
    )
    out = tmp_path / "out"
    assert run(model_folder, "--harness", "sums", "--data-dir", tmp_path, "--limit", 2, "--out", out) == 0
    assert "|sums" in capsys.readouterr().out.replace(" ", "")
    assert len(json.loads((out / "lm_eval.json").read_text("utf-8"))["samples"]["sums"]) == 2
