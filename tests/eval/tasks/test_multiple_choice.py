"""MMLU's questions, from its archive and from its folder, and what counts as choosing."""

import zipfile
from pathlib import Path

import pytest

from qianwen.eval.task import Answer
from qianwen.eval.tasks.multiple_choice import INSTRUCTION, Mmlu
from qianwen.runtime.errors import DataError

ASTRONOMY = (
    '"Why is the sky ""blue""?",Air scatters short waves,Seas shine,Absorption,It is not,A\nHow many moons?,1,2,3,4,B\n'
)
LAW = "What is a tort?,A cake,A wrong,A tax,A court,B\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data" / "test").mkdir(parents=True)
    (tmp_path / "data" / "test" / "astronomy_test.csv").write_text(ASTRONOMY)
    (tmp_path / "data" / "test" / "law_test.csv").write_text(LAW)
    return tmp_path


def test_subjects_take_turns(folder: Path) -> None:
    asked = list(Mmlu(str(folder)).examples())
    assert [(each.facts["subject"], each.facts["target"]) for each in asked] == [
        ("astronomy", "A"),
        ("law", "B"),
        ("astronomy", "B"),
    ]
    expected = 'Why is the sky "blue"?\nA. Air scatters short waves\nB. Seas shine\nC. Absorption\nD. It is not'
    assert asked[0].messages[0].content == INSTRUCTION + expected


def test_the_archive_says_the_same_as_its_folder(folder: Path) -> None:
    with zipfile.ZipFile(folder / "mmlu.zip", "w") as archive:
        for path in (folder / "data").rglob("*.csv"):
            archive.write(path, path.relative_to(folder))
    assert list(Mmlu(str(folder / "mmlu.zip")).examples()) == list(Mmlu(str(folder)).examples())


@pytest.mark.parametrize(
    ("reply", "right"),
    [("The answer is A.", 1), ("Air scatters short waves.", 1), ("(A)", 1), ("B", 0), ("Seas shine", 0), ("", 0)],
)
def test_a_letter_or_its_words_choose(folder: Path, reply: str, right: int) -> None:
    task = Mmlu(str(folder))
    example = next(iter(task.examples()))
    if reply:
        assert task.score(example, Answer(text=reply)).shares == {"accuracy": (right, 1)}
    else:  # nothing is like every option alike: a choice all the same, never an error
        assert set(task.score(example, Answer()).shares) == {"accuracy"}


def test_what_is_no_question_is_named(folder: Path) -> None:
    (folder / "data" / "test" / "law_test.csv").write_text("What is a tort?,A cake,B\n")
    with pytest.raises(DataError, match="question 1 of law"):
        list(Mmlu(str(folder)).examples())


def test_a_folder_without_questions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no file"):
        list(Mmlu(str(tmp_path)).examples())
