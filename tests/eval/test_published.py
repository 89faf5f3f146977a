"""The published figures: every table is complete, and its columns name tasks that exist."""

import pytest

from qianwen.eval.published import DOCUMENTS, Column, published_tables
from qianwen.eval.tables import _need
from qianwen.train.plan import published

TABLES = {table.name: table for document in DOCUMENTS for table in published_tables(document)}
COLUMNS = [column for table in TABLES.values() for column in table.columns]
TASK_NAMES = {
    *("mmlu", "mmlu-chat", "ceval", "ceval-chat", "cmmlu", "humaneval", "humaneval-chat", "mbpp", "math", "bbh"),
    *("gsm8k", "gsm8k-chat", "gsm8k-chat-4shot", "wmt22-zh-en", "wmt22-en-zh"),
    *(f"leval-{part}" for part in ("coursera", "gsm100", "quality", "tpo", "codeu", "sci-fi")),
}


def test_each_document_has_its_tables() -> None:
    assert [table.name for table in published_tables("memo")] == [
        *(f"memo-{number}" for number in range(1, 14)),
        "memo-long-context",
    ]
    assert [table.name for table in published_tables("blog")] == ["blog-1", "blog-2"]
    assert len(published_tables("models")) == 5


@pytest.mark.parametrize(
    ("table", "model", "column", "figure"),
    [
        ("memo-2", "Qwen-7B", "Avg. (Hard)", 41.0),
        ("memo-3", "InternLM-7B", "STEM", None),
        ("memo-3", "ChatGLM2-12B", "Others", 60.9),
        ("memo-6", "PolyLM-13B", "en-zh", 27.0),
        ("memo-11", "Qwen-7B-Chat", "4-shot Acc.", 43.5),
        ("memo-12", "GPT-3.5", "False Positive Error↓", 75.0),
        ("memo-long-context", "Qwen-7B", "16384", 2645.09),
        ("blog-1", "Qwen-72B", "Max length", "32K"),
        ("blog-1", "Qwen-1.8B", "Least GPU memory of generating 2,048 tokens (Int4), GB", 2.91),
        ("blog-2", "ChatGPT-3.5-16k", "CodeU", 12.22),
        ("models-base", "Qwen-72B", "CMMLU", 83.6),
        ("models-report", "Qwen-14B", "OCNLI", 57.9),
        ("models-chat", "Qwen-72B-Chat", "BBH, 3", None),
        ("models-quantized", "Qwen-14B-Chat (Int8)", "HumanEval", 48.2),
    ],
)
def test_figures_are_where_the_documents_have_them(table: str, model: str, column: str, figure: object) -> None:
    rows = dict(TABLES[table].rows)
    place = [each.name for each in TABLES[table].columns].index(column)
    assert rows[model][place] == figure


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_column_names_known_tasks_or_the_reason_why_there_is_none(column: Column) -> None:
    assert not (column.tasks and column.needs)
    assert set(column.tasks) <= TASK_NAMES and bool(column.tasks) == bool(column.metric)
    assert _need(column.needs)


def test_memory_is_that_of_the_planner() -> None:
    rows = dict(TABLES["blog-1"].rows)
    for name, figures in rows.items():
        size = name.removeprefix("Qwen-").lower()
        assert figures[4:6] == (published()["finetune"][size]["qlora"]["256"], published()["generate"][size]["4"])


def test_rows_and_names_are_unique() -> None:
    for table in TABLES.values():
        names = [name for name, _ in table.rows]
        assert len(set(names)) == len(names) > 1
        assert len({column.name for column in table.columns}) == len(table.columns)


def test_titles_are_in_the_user_s_language(monkeypatch) -> None:
    monkeypatch.setenv("QIANWEN_LANG", "zh")
    assert all(any("一" <= sign <= "鿿" for sign in table.title) for table in published_tables("blog"))


def test_the_figures_are_those_of_the_documents(shared) -> None:
    """Every number of our file is in the list of published tables, row by row."""
    text = (shared / "facts" / "published_tables.md").read_text("utf-8").replace("*", "")
    lines = {line.split("|")[1].strip(): line for line in text.split("\n") if line.startswith("|")}
    known = [line for line in text.split("\n") if line.startswith("|")]
    for name, table in TABLES.items():
        if name.startswith("models"):
            continue
        for model, figures in table.rows:
            rows = [line for line in known if line.split("|")[1].strip() == model]
            assert model in lines and any(_has_all(line, figures) for line in rows), (name, model)


def _has_all(line: str, figures: tuple[object, ...]) -> bool:
    cells = [cell.strip().rstrip("%").removesuffix("GB") for cell in line.strip("|").split("|")[1:]]
    return len(cells) == len(figures) and all(map(_is_same, cells, figures))


def _is_same(cell: str, figure: object) -> bool:
    if isinstance(figure, float):
        return float(cell) == pytest.approx(figure, abs=0.051)  # the blog rounds memory to one decimal
    return cell == {"yes": "✔", "no": "✘", None: "-"}.get(figure, figure)  # type: ignore[call-overload]
