"""Our rows under the published ones: values with intervals, and dashes that say why."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from qianwen.eval.metrics import Estimate
from qianwen.eval.results import Results, TaskResults
from qianwen.eval.tables import (
    DASH,
    Table,
    console_tables,
    document_tables,
    mean_of,
    model_name,
    notes_of,
    save_tables,
    tasks_of_table,
    to_json,
    to_markdown,
)

MMLU = {"acc": Estimate(0.5031, 0.495, 0.511, 14042), "acc/STEM": Estimate(0.4, 0.38, 0.42, 3153)}
BLEU = {"zh-en": Estimate(20.0, 19.0, 21.0, 300), "en-zh": Estimate(30.0, 29.0, 31.0, 200)}


def results(tasks: dict[str, dict[str, Estimate]], **settings: object) -> Results:
    """As `load_results` returns them."""
    made = {
        name: TaskResults(
            name=name, metrics=metrics, chance=None, settings={}, num_examples=1, num_errors=0, path=Path("none")
        )
        for name, metrics in tasks.items()
    }
    return Results(Path("runs/eval/small"), {"model": "models/small.gguf"} | settings, made)


def table(name: str, document: str, *args) -> Table:
    return next(table for table in document_tables(document, *args) if table.name == name)


def test_the_tasks_of_a_document() -> None:
    assert [name.removeprefix("leval-") for name in tasks_of_table("blog")] == [
        *("coursera", "gsm100", "quality", "tpo", "codeu", "sci-fi")
    ]
    assert tasks_of_table("memo")[:4] == ["ceval", "mmlu", "humaneval", "gsm8k"]
    assert "wmt22-en-zh" in tasks_of_table("memo") and "gsm8k-chat-4shot" in tasks_of_table("memo")
    assert {"mbpp", "bbh", "math", "cmmlu"} <= set(tasks_of_table("models"))


def test_our_row_is_in_the_published_unit_with_its_interval() -> None:
    mine = table("memo-3", "memo", [results({"mmlu": MMLU})]).rows[-1]
    assert (mine.name, mine.kind) == ("small.gguf", "ours")
    assert [cell.text for cell in mine.cells] == ["50.3 [49.5, 51.1]", "40.0 [38.0, 42.0]", DASH, DASH, DASH]
    assert mine.cells[0].value == pytest.approx(50.31) and mine.cells[0].num_examples == 14042


def test_rivals_and_qwen_are_told_apart_and_keep_the_published_figures() -> None:
    rows = {row.name: row for row in table("memo-3", "memo", []).rows}
    assert rows["LLaMA-7B"].kind == "rival" and rows["Qwen-7B"].kind == "qwen"
    assert [cell.text for cell in rows["Qwen-7B"].cells] == ["56.7", "47.6", "65.9", "51.5", "64.7"]
    assert (rows["InternLM-7B"].cells[1].text, rows["InternLM-7B"].cells[1].reason) == (DASH, "not published")


def test_an_average_over_two_tasks_is_theirs_with_a_joint_interval() -> None:
    both = {f"wmt22-{pair}": {"bleu": value} for pair, value in BLEU.items()}
    cells = table("memo-6", "memo", [results(both)]).rows[-1].cells
    assert [cell.text for cell in cells] == ["25.0 [24.3, 25.7]", "20.0 [19.0, 21.0]", "30.0 [29.0, 31.0]"]
    assert cells[0].num_examples == 500
    half = table("memo-6", "memo", [results({"wmt22-zh-en": {"bleu": BLEU["zh-en"]}})]).rows[-1].cells
    assert (half[0].text, half[0].reason) == (DASH, "wmt22-en-zh: not run")


@pytest.mark.parametrize(
    ("number", "width"), [(1, 0.02), (2, 0.02 / 2**0.5), (4, 0.01), (9, 0.02 / 3), (16, 0.005), (100, 0.002)]
)
def test_the_interval_of_a_mean_shrinks_with_the_root_of_their_number(number: int, width: float) -> None:
    mean = mean_of([Estimate(0.5, 0.49, 0.51, 10)] * number)
    assert mean.high - mean.low == pytest.approx(width) and mean.value == pytest.approx(0.5)


@pytest.mark.parametrize(
    ("name", "document", "column", "reason"),
    [
        ("memo-1", "memo", "Average", "ceval: not run"),
        ("memo-2", "memo", "Avg.", "only C-Eval's server knows the answers"),
        ("memo-4", "memo", "Pass@1", "humaneval: no file HumanEval.jsonl"),
        ("memo-12", "memo", "Tool Selection (Acc.↑)", "use of tools"),
        ("memo-long-context", "memo", "8192", "long contexts"),
        ("blog-1", "blog", "Max length", "a property of the model"),
        ("blog-1", "models", "Least GPU memory of fine-tuning (Q-LoRA), GB", "qianwen plan"),
        ("models-report", "models", "LAMBADA", "--harness"),
        ("models-chat", "models", "MMLU, 5", "worked examples to a chat model"),
    ],
)
def test_every_dash_says_why(name: str, document: str, column: str, reason: str) -> None:
    made = table(name, document, [results({})], {"humaneval": "no file HumanEval.jsonl"})
    cell = made.rows[-1].cells[made.columns.index(column)]
    assert cell.text == DASH and cell.value is None and reason in cell.reason


def test_no_cell_of_ours_has_a_number_that_was_not_measured() -> None:
    for document in ("memo", "blog", "models"):
        for made in document_tables(document, [results({})]):
            assert all(cell.value is None and cell.reason for cell in made.rows[-1].cells)


def test_a_category_without_questions_in_a_limited_run_is_a_dash() -> None:
    made = table("memo-3", "memo", [results({"mmlu": {"acc": MMLU["acc"]}})])
    assert made.rows[-1].cells[1].reason == "mmlu has no examples for it in this run"


def test_notes_have_the_number_of_examples_and_each_reason_once() -> None:
    assert notes_of(table("memo-3", "memo", [results({"mmlu": MMLU})])) == [
        "small.gguf, Average: 14,042 examples",
        "small.gguf, STEM: 3,153 examples",
        "small.gguf, Social Sciences, Humanities, Others: mmlu has no examples for it in this run",
    ]


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"bits": 4}, "small.gguf (4 bits)"),
        ({"bits": 16}, "small.gguf (16 bits)"),
        ({"bits": None}, "small.gguf (floats)"),
        ({}, "small.gguf"),
        ({"model": "Qwen/Qwen2.5-0.5B", "bits": 8}, "Qwen2.5-0.5B (8 bits)"),
        ({"model": "/models/mine/", "bits": "nf4"}, "mine (nf4 bits)"),
    ],
)
def test_the_row_names_model_and_bits(settings: dict[str, object], name: str) -> None:
    assert model_name(results({}, **settings)) == name


def test_two_models_stand_in_one_table() -> None:
    rows = table("memo-3", "memo", [results({"mmlu": MMLU}), results({}, model="other")]).rows
    assert [row.name for row in rows[-2:]] == ["small.gguf", "other"]


def test_markdown_has_a_table_of_equal_rows_and_the_notes() -> None:
    text = to_markdown("memo", document_tables("memo", [results({"mmlu": MMLU}, model="a|b")]))
    section = text.split("## MMLU, test set, 5 examples")[1].split("\n## ")[0].strip().split("\n")
    rows = [line for line in section if line.startswith("|")]
    assert len(rows) == 2 + 10 + 1 and {line.replace("\\|", "").count("|") for line in rows} == {7}
    assert rows[-1].startswith("| **a\\|b** | 50.3 [49.5, 51.1] |") and "| **Qwen-7B** | 56.7 |" in text
    assert "* a|b, Average: 14,042 examples" in section


def test_json_has_every_field() -> None:
    body = json.loads(to_json("blog", document_tables("blog", [results({})])))
    assert body["document"] == "blog" and [each["name"] for each in body["tables"]] == ["blog-1", "blog-2"]
    assert body["tables"][1]["rows"][0]["cells"][1]["value"] == 60.73


def test_files_and_console(tmp_path: Path) -> None:
    tables = document_tables("memo", [results({"mmlu": MMLU}, model="[red]odd")])
    assert [path.name for path in save_tables(tmp_path, "memo", tables)] == ["table_memo.md", "table_memo.json"]
    assert (tmp_path / "table_memo.md").read_text("utf-8") == to_markdown("memo", tables)
    console = Console(width=200, file=io.StringIO(), record=True)
    for each in console_tables(tables):
        console.print(each)
    printed = console.export_text()
    assert "[red]odd" in printed and "50.3 [49.5, 51.1]" in printed and "MMLU, test set, 5 examples" in printed
