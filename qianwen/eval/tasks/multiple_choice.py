"""Questions with four options, put to a chat model without examples, as Qwen's released `evaluate_chat_mmlu.py` does.

    accuracy    the share of questions whose letter is chosen (`chat/answers.py` reads it out of the reply)

A run of the first N asks about every subject alike: the first question of each, then the second of each, and so on.
"""

import csv
import io
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from itertools import chain, zip_longest
from pathlib import Path

from qianwen.chat.answers import choice
from qianwen.chat.messages import Message
from qianwen.eval.metrics import exact_match
from qianwen.eval.task import Answer, Generate, Score, Task
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

INSTRUCTION = (
    "The following is a multiple-choice question. Please choose the most suitable one among A, B, C and D as the "
    "answer to this question.\n\n"
)
LETTERS = "ABCD"
MAX_TOKENS = 64  # a reply that has not named a letter by then is read by what it says


class Mmlu(Task):
    """MMLU's test questions (Hendrycks et al., 2021), from its zip or the folder in it: `test/SUBJECT_test.csv`."""

    name = "mmlu"
    chance = 0.25

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    def examples(self) -> Iterable[Generate]:
        subjects = [self._questions(subject, text) for subject, text in self._files()]
        if not subjects:
            raise DataError(tr("{path} contains no file test/SUBJECT_test.csv", path=self.path))
        return (example for example in chain.from_iterable(zip_longest(*subjects)) if example)

    def _files(self) -> Iterator[tuple[str, str]]:
        """Subject and contents of every file of test questions, in their order."""
        try:
            if zipfile.is_zipfile(self.path):
                with zipfile.ZipFile(self.path) as archive:
                    for name in sorted(archive.namelist()):
                        if name.endswith("_test.csv"):
                            yield _subject(name), archive.read(name).decode("utf-8")
            else:
                for path in sorted(self.path.rglob("*_test.csv")):
                    yield _subject(path.name), path.read_text("utf-8")
        except (UnicodeDecodeError, zipfile.BadZipFile, zlib.error) as error:
            raise DataError(tr("{path} could not be read: {error}", path=self.path, error=error)) from error

    def _questions(self, subject: str, text: str) -> Iterator[Generate]:
        for number, row in enumerate(_csv_rows(text), start=1):
            if len(row) != len(LETTERS) + 2 or row[-1] not in tuple(LETTERS):
                message = "{path}: question {number} of {subject} must have a question, four options and a letter"
                raise DataError(tr(message, path=self.path, number=number, subject=subject))
            question, *texts, letter = row
            options = dict(zip(LETTERS, texts, strict=True))
            listed = "\n".join(f"{key}. {option}" for key, option in options.items())
            facts = {"subject": subject, "question": question, "options": options, "target": letter}
            asked = Message("user", f"{INSTRUCTION}{question}\n{listed}")
            yield Generate(messages=[asked], max_tokens=MAX_TOKENS, facts=facts)

    def score(self, example: Generate, answer: Answer) -> Score:
        chosen = choice(answer.text, example.facts["options"], example.facts["question"])
        share = exact_match(chosen, example.facts["target"])
        return Score(shares={"accuracy": share}, extracted=chosen, is_right=bool(share.amount))


def _csv_rows(text: str) -> Iterator[list[str]]:
    """The rows of a CSV text; a row that cannot be read is empty."""
    reader = csv.reader(io.StringIO(text, newline=""))
    while True:
        try:
            yield next(reader)
        except StopIteration:
            return
        except csv.Error:
            yield []


def _subject(name: str) -> str:
    return name.rpartition("/")[2].removesuffix("_test.csv")
