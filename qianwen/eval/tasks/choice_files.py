"""Questions with four options, subject by subject, in the layouts of MMLU, C-Eval and CMMLU.

    CSV        a folder or archive with a file for each subject and split: `test/law_test.csv`, `val/law_val.csv`
    Parquet    as on the hub: `all/test-00000-of-00001.parquet` with a column for the subject, or a folder for each
               subject: `law/val-00000-of-00001.parquet`

Texts are used exactly as they are written in the files: an option "None" or "08" stays what it is. (The released
scripts read CSV with pandas, for which "None" is a missing value.)
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from qianwen.eval.data_files import COMPRESSED, csv_rows, members, parquet_rows
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

LETTERS = "ABCD"


@dataclass(frozen=True, kw_only=True)
class Question:
    """A question with the text of each option, by its letter."""

    subject: str
    id: str  # as published, else its position among the questions of the subject
    text: str
    options: Mapping[str, str]
    answer: str  # a letter; empty where the answers are not published


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the files of a split are, with `{split}` and `{subject}` for their names, and what their columns mean."""

    csv: str
    parquet: tuple[str, ...] = ()  # alternatives; the first that exists is read
    question: str = "question"
    answer: str = "answer"
    has_header: bool = True
    parquet_columns: tuple[str, ...] = ()  # where they are not those of the CSV files

    def columns(self, is_answered: bool) -> tuple[str, ...]:
        return (self.question, *LETTERS, *([self.answer] if is_answered else []))

    def expected(self, split: str) -> tuple[str, ...]:
        """Patterns of the files of a split, relative to the benchmark's folder."""
        return tuple(name.format(split=split, subject="*") for name in (self.csv, *self.parquet))


def read_questions(path: Path, split: str, layout: Layout, *, is_answered: bool = True) -> dict[str, list[Question]]:
    """The questions of each subject, subjects by name. DataError if there are none or one is not as it should be."""
    subjects: dict[str, list[Question]] = {}
    for name, subject, rows in _tables(path, split, layout, is_answered):
        for number, row in enumerate(rows, start=1):
            questions = subjects.setdefault(subject or str(row["subject"]), [])
            questions.append(_question(name, number, subject or str(row["subject"]), len(questions), row, layout))
            if is_answered and questions[-1].answer not in tuple(LETTERS):
                raise _unusable(name, number)
    if not subjects:
        expected = ", ".join(layout.expected(split))
        raise DataError(tr("{path} contains none of these: {expected}", path=path, expected=expected))
    return dict(sorted(subjects.items()))


def _tables(
    path: Path, split: str, layout: Layout, is_answered: bool
) -> Iterator[tuple[str, str, Sequence[Mapping[str, Any]]]]:
    """Name, subject and rows of each file. An empty subject: each row has its own."""
    for pattern in layout.parquet if path.is_dir() else ():
        files = sorted(path.glob(pattern.format(split=split, subject="*")))
        for file in files:
            subject = file.parent.name if "{subject}" in pattern else ""
            columns = layout.parquet_columns or layout.columns(is_answered)
            yield str(file), subject, parquet_rows(file, columns)
        if files:
            return
    seen = set()
    ending = layout.csv.partition("{subject}")[2].format(split=split)
    for name, text in members(path, layout.csv.format(split=split, subject="*")):
        file = PurePosixPath(name)
        subject = (file.stem if file.suffix in COMPRESSED else file.name).removesuffix(ending)
        if subject in seen:
            message = "{path}: a second file with questions of {subject}; keep one"
            raise DataError(tr(message, path=path / name, subject=subject))
        seen.add(subject)
        rows = csv_rows(str(path / name), text, layout.columns(is_answered), has_header=layout.has_header)
        yield str(path / name), subject, rows


def _question(name: str, number: int, subject: str, position: int, row: Mapping[str, Any], layout: Layout) -> Question:
    text, answer = row[layout.question], row.get(layout.answer) or ""
    texts = row["choices"] if "choices" in row else [row[letter] for letter in LETTERS]
    if isinstance(row.get(layout.answer), int):  # on the hub: the position of the option
        answer = LETTERS[row[layout.answer] : row[layout.answer] + 1]
    if not isinstance(text, str) or not text.strip() or not texts or len(texts) != len(LETTERS):
        raise _unusable(name, number)
    options = {letter: "" if option is None else str(option) for letter, option in zip(LETTERS, texts, strict=True)}
    return Question(subject=subject, id=str(row.get("id", position)), text=text, options=options, answer=answer)


def _unusable(name: str, number: int) -> DataError:
    message = "{path}, question {number}: a question needs a text, four options and an answer (A, B, C or D)"
    return DataError(tr(message, path=name, number=number))
