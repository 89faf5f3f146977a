"""Questions in every published layout are the same, and a file that is not as it should be is named."""

import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet

from qianwen.eval.tasks.ceval import CEVAL
from qianwen.eval.tasks.choice_files import Layout, Question, read_questions
from qianwen.eval.tasks.cmmlu import CMMLU
from qianwen.eval.tasks.mmlu import MMLU
from qianwen.runtime.errors import DataError

ROWS = {
    "astronomy": [
        ('Why is the "sky" blue?', "Air, thin", "None", "08", "It\nis not", "A"),
        ("二?", "1", "2", "3", "4", "D"),
    ],
    "law": [("What is a tort?", "A cake", "A wrong", "NA", "A court", "B")],
}
EXPECTED = {
    subject: [
        Question(
            subject=subject, id=str(i), text=row[0], options=dict(zip("ABCD", row[1:5], strict=True)), answer=row[5]
        )
        for i, row in enumerate(rows)
    ]
    for subject, rows in ROWS.items()
}


def quoted(values: Sequence[object]) -> str:
    return ",".join('"' + str(value).replace('"', '""') + '"' for value in values)


def csv_of(rows: Sequence[Sequence[Any]], header: str = "", *, numbered: bool = False) -> str:
    lines = [quoted((i, *row) if numbered else row) for i, row in enumerate(rows)]
    return "".join(line + "\n" for line in ([header] if header else []) + lines)


def as_mmlu(folder: Path) -> Layout:
    for subject, rows in ROWS.items():
        write(folder / "test" / f"{subject}_test.csv", csv_of(rows))
    return MMLU.layout


def as_ceval(folder: Path) -> Layout:
    for subject, rows in ROWS.items():
        write(folder / "test" / f"{subject}_test.csv", csv_of(rows, "id,question,A,B,C,D,answer", numbered=True))
    return CEVAL.layout


def as_ceval_with_explanations(folder: Path) -> Layout:
    for subject, rows in ROWS.items():
        text = csv_of([(*row, "because") for row in rows], "id,question,A,B,C,D,answer,explanation", numbered=True)
        write(folder / "data" / "test" / f"{subject}_test.csv", "\ufeff" + text)
    return CEVAL.layout


def as_cmmlu(folder: Path) -> Layout:
    for subject, rows in ROWS.items():
        write(folder / "test" / f"{subject}.csv", csv_of(rows, ",Question,A,B,C,D,Answer", numbered=True))
    return CMMLU.layout


def as_hub_mmlu(folder: Path) -> Layout:
    rows = [(subject, *row) for subject in reversed(ROWS) for row in ROWS[subject]]
    columns = {
        "question": [row[1] for row in rows],
        "subject": [row[0] for row in rows],
        "choices": [list(row[2:6]) for row in rows],
        "answer": ["ABCD".index(row[6]) for row in rows],
    }
    (folder / "all").mkdir(parents=True)
    table = pa.table(columns)
    parquet.write_table(table.slice(0, 1), folder / "all" / "test-00000-of-00002.parquet")
    parquet.write_table(table.slice(1), folder / "all" / "test-00001-of-00002.parquet")
    return MMLU.layout


def as_hub_ceval(folder: Path) -> Layout:
    for subject, rows in ROWS.items():
        (folder / subject).mkdir(parents=True)
        columns: dict[str, list] = {"id": list(range(len(rows)))}
        columns |= {name: [row[i] for row in rows] for i, name in enumerate(["question", *"ABCD", "answer"])}
        parquet.write_table(pa.table(columns), folder / subject / "test-00000-of-00001.parquet")
    return CEVAL.layout


LAYOUTS = [as_mmlu, as_ceval, as_ceval_with_explanations, as_cmmlu, as_hub_mmlu, as_hub_ceval]


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode())


@pytest.mark.parametrize("make", LAYOUTS)
def test_every_layout_holds_the_same_questions_with_their_texts_as_written(tmp_path: Path, make: Any) -> None:
    layout = make(tmp_path / "x")
    assert read_questions(tmp_path / "x", "test", layout) == EXPECTED


@pytest.mark.parametrize("make", LAYOUTS[:4])
@pytest.mark.parametrize("prefix", ["", "data/"])
def test_an_archive_holds_the_same_questions(tmp_path: Path, make: Any, prefix: str) -> None:
    layout = make(tmp_path / "x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for path in (tmp_path / "x").rglob("*.csv"):
            archive.write(path, prefix + path.relative_to(tmp_path / "x").as_posix())
    assert read_questions(tmp_path / "x.zip", "test", layout) == EXPECTED


def test_questions_without_published_answers_have_none(tmp_path: Path) -> None:
    rows = [row[:5] for row in ROWS["law"]]
    write(tmp_path / "test" / "law_test.csv", csv_of(rows, "id,question,A,B,C,D", numbered=True))
    (question,) = read_questions(tmp_path, "test", CEVAL.layout, is_answered=False)["law"]
    assert question == replace(EXPECTED["law"][0], answer="")
    with pytest.raises(DataError, match="law_test.csv lacks the columns answer; it has id, question, A, B, C, D"):
        read_questions(tmp_path, "test", CEVAL.layout)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lacks the columns question, A, B, C, D, answer"),
        ("id,question,A,B,C,D,answer\n", "contains no rows"),
        ("id,question,A,B,C,answer\n0,q,1,2,3,A\n", "lacks the columns D; it has id"),
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,4,E\n", "question 1: a question needs"),
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,4,A\n1,q,1,2,3,4,\n", "question 2: a question needs"),
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,4,AB\n", "question 1: a question needs"),
        ("id,question,A,B,C,D,answer\n0, ,1,2,3,4,A\n", "question 1: a question needs"),
        ("id,question,A,B,C,D,answer\n0,q,1,2,3,A\n", "line 2: 6 columns, but there must be 7"),
        ("0,q,1,2,3,4,A\n", "lacks the columns"),
    ],
)
def test_a_file_that_is_not_as_it_should_be_is_named(tmp_path: Path, text: str, message: str) -> None:
    write(tmp_path / "val" / "art_val.csv", "id,question,A,B,C,D,answer\n0,q,1,2,3,4,A\n")
    write(tmp_path / "val" / "law_val.csv", text)
    with pytest.raises(DataError, match=f"law_val.csv.*{message}"):
        read_questions(tmp_path, "val", CEVAL.layout)


@pytest.mark.parametrize(("choices", "answer"), [(["a", "b", "c"], 0), (["a", "b", "c", "d"], 4), (None, 0)])
def test_a_row_of_the_hub_that_is_not_as_it_should_be_is_named(tmp_path: Path, choices: Any, answer: int) -> None:
    column = pa.array([choices], pa.list_(pa.string()))
    table = pa.table({"question": ["q"], "subject": ["law"], "choices": column, "answer": [answer]})
    (tmp_path / "all").mkdir()
    parquet.write_table(table, tmp_path / "all" / "test-0.parquet")
    with pytest.raises(DataError, match="test-0.parquet, question 1: a question needs"):
        read_questions(tmp_path, "test", MMLU.layout)


def test_ids_are_those_of_the_files(tmp_path: Path) -> None:
    """A submission to C-Eval names its questions by them."""
    write(tmp_path / "csv" / "test" / "law_test.csv", "id,question,A,B,C,D\n7,q,1,2,3,4\n5,r,1,2,3,4\n")
    columns = {"id": [7, 5], "question": ["q", "r"], **{name: ["1", "2"] for name in "ABCD"}, "answer": ["", ""]}
    (tmp_path / "hub" / "law").mkdir(parents=True)
    parquet.write_table(pa.table(columns), tmp_path / "hub" / "law" / "test-00000-of-00001.parquet")
    for folder in ("csv", "hub"):
        questions = read_questions(tmp_path / folder, "test", CEVAL.layout, is_answered=False)["law"]
        assert [(question.id, question.answer) for question in questions] == [("7", ""), ("5", "")]


def test_a_subject_has_one_file(tmp_path: Path) -> None:
    for folder in ("old", "new"):
        write(tmp_path / folder / "test" / "law_test.csv", csv_of(ROWS["law"]))
    with pytest.raises(DataError, match=r"old/test/law_test.csv: a second file with questions of law"):
        read_questions(tmp_path, "test", MMLU.layout)


def test_a_folder_without_questions_names_the_layouts(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of these: test/\*_test.csv, all/test-\*.parquet, \*/test-\*.parquet"):
        read_questions(tmp_path, "test", MMLU.layout)
