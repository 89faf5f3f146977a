"""Prompts, clusters and averages of a benchmark of questions with options."""

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Choice, Score, Scored
from qianwen.eval.tasks.ceval import CEVAL
from qianwen.eval.tasks.choice_benchmark import Benchmark, in_turns
from qianwen.eval.tasks.choice_files import Question
from qianwen.eval.tasks.cmmlu import CMMLU
from qianwen.eval.tasks.mmlu import MMLU
from qianwen.runtime.errors import DataError

BENCHMARKS = {"mmlu": MMLU, "ceval": CEVAL, "cmmlu": CMMLU}


def question(subject: str = "law", id: str = "0", text: str = "Which?", answer: str = "B") -> Question:
    options = {"A": "one", "B": "two {braces}", "C": "three", "D": "4"}
    return Question(subject=subject, id=id, text=text, options=options, answer=answer)


def scored(subject: str, *right: int, cluster: str = "") -> list[Scored]:
    example = Choice(context="", choices=(), facts={"subject": subject}, cluster=cluster)
    return [Scored(example, Answer(), Score(shares={"acc": Share(value)})) for value in right]


def test_a_prompt_by_hand() -> None:
    worked = question("us_law", answer="C")
    assert MMLU.prompt(question("us_law"), [worked]) == (
        "The following are multiple choice questions (with answers) about us law.\n\n"
        "Question: Which?\nA. one\nB. two {braces}\nC. three\nD. 4\nAnswer: C\n\n"
        "Question: Which?\nA. one\nB. two {braces}\nC. three\nD. 4\nAnswer:"
    )
    assert CEVAL.prompt(question(), [worked, worked]) == (
        "问题：Which?\nA. one\nB. two {braces}\nC. three\nD. 4\n答案：C\n\n" * 2
        + "问题：Which?\nA. one\nB. two {braces}\nC. three\nD. 4\n答案："
    )


def test_a_message_by_hand() -> None:
    assert CEVAL.message(question()) == "Which?\n\nA. one\nB. two {braces}\nC. three\nD. 4\n"
    assert MMLU.message(question()) == (
        "The following is a multiple-choice question. Please choose the most suitable one among A, B, C and D as the "
        "answer to this question.\n\nWhich?\nA. one\nB. two {braces}\nC. three\nD. 4\n"
    )


@pytest.mark.parametrize("name", BENCHMARKS)
@pytest.mark.parametrize("num_shots", [0, 1, 5])
def test_every_prompt_ends_right_before_the_letter(name: str, num_shots: int) -> None:
    """With the letter after it, the question looks exactly like a worked example."""
    benchmark = BENCHMARKS[name]
    shots = [question(text=f"{i}?", answer="ABCDA"[i]) for i in range(num_shots)]
    asked = question(text="Q?", answer="D")
    prompt = benchmark.prompt(asked, shots)
    assert not prompt[-1].isspace()
    completed = prompt + benchmark.blank + "D\n\n"
    assert benchmark.prompt(question(text="next?"), [*shots, asked]).startswith(completed)
    assert len(re.findall(r"^A\. ", prompt, re.M)) == num_shots + 1


@pytest.mark.parametrize(("name", "subjects"), [("mmlu", 57), ("ceval", 52), ("cmmlu", 67)])
def test_every_subject_is_in_one_of_the_four_categories(name: str, subjects: int) -> None:
    categories = BENCHMARKS[name].categories
    assert list(categories)[:4] == ["STEM", "Social Sciences", "Humanities", "Others"]
    names = " ".join(list(categories.values())[:4]).split()
    assert len(names) == len(set(names)) == subjects == len(BENCHMARKS[name].subjects)
    for further in list(categories.values())[4:]:
        assert set(further.split()) <= set(names)


def test_the_eight_hard_subjects_are_mathematics_and_science() -> None:
    hard = CEVAL.categories["Hard"].split()
    assert len(hard) == 8 and set(hard) <= set(CEVAL.categories["STEM"].split())


def test_subjects_take_turns() -> None:
    subjects = {"art": [question("art", str(i)) for i in range(3)], "law": [question("law", "0")]}
    assert [(each.subject, each.id) for each in in_turns(subjects)] == [
        ("art", "0"),
        ("law", "0"),
        ("art", "1"),
        ("art", "2"),
    ]


def test_questions_about_one_passage_are_a_cluster() -> None:
    opening = "This question refers to the following information.\n"
    texts = [
        opening + "A letter\nof 1848.\nWho?",
        "Alone?",
        opening + "A letter\nof 1848.\nWhy?",
        opening + "A map.\nWho?",
    ]
    questions = [question(id=str(i), text=text) for i, text in enumerate(texts)]
    assert list(MMLU.clusters(questions).values()) == ["law/0", "law/1", "law/0", "law/3"]
    assert len(set(CEVAL.clusters(questions).values())) == 4


def test_averages_by_hand() -> None:
    """Three questions of one subject and one of another: 2 of 4 in all, but (1/3 + 1) / 2 by subject."""
    rows = [*scored("college_physics", 1, 0, 0), *scored("marxism", 1)]
    macro = CEVAL.estimates(rows)
    assert macro["acc"].value == pytest.approx(2 / 3) and macro["acc"].num_examples == 4
    assert {name: value.value for name, value in macro.items() if name != "acc"} == {
        "acc/STEM": pytest.approx(1 / 3),
        "acc/Social Sciences": 1,
        "acc/Hard": pytest.approx(1 / 3),
    }
    micro = MMLU.estimates([*scored("college_physics", 1, 0, 0), *scored("marketing", 1)])
    assert micro["acc"].value == 0.5 and list(micro) == ["acc", "acc/STEM", "acc/Others"]


def test_answers_about_one_passage_vary_together() -> None:
    """Ten passages with ten questions each, all right or all wrong, say as little as ten questions."""
    together, apart = ([], [])
    for passage in range(10):
        rows = [passage % 2] * 10
        together += scored("prehistory", *rows, cluster=f"p{passage}")
        for i, value in enumerate(rows):
            apart += scored("prehistory", value, cluster=f"p{passage}/{i}")
    wide, narrow = (MMLU.estimates(rows)["acc"] for rows in (together, apart))
    assert wide.value == narrow.value == 0.5
    assert wide.high - wide.low > 2.5 * (narrow.high - narrow.low)


def write(folder: Path, subjects: Sequence[str]) -> Path:
    for split in ("test", "dev"):
        (folder / split).mkdir()
        for subject in subjects:
            (folder / split / f"{subject}_{split}.csv").write_text("Which?,1,2,3,4,A\n")
    return folder


@pytest.mark.parametrize("nested", ["", "mmlu", "mmlu/data", "data"])
def test_a_benchmark_is_found_below_or_at_the_folder(tmp_path: Path, nested: str) -> None:
    (tmp_path / nested).mkdir(parents=True, exist_ok=True)
    write(tmp_path / nested, ["virology"])
    assert list(MMLU.read(tmp_path, "test")) == ["virology"] == list(MMLU.read(tmp_path, "dev"))


def test_another_benchmark_in_the_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has the subject astrology, which is not a subject of this benchmark"):
        MMLU.read(write(tmp_path, ["virology", "astrology"]), "test")
    with pytest.raises(DataError, match="contains none of these: ceval.zip"):
        CEVAL.read(tmp_path, "val")


def test_the_hash_is_of_questions_and_worked_examples() -> None:
    """It changes with any text, letter or number of either; not with where the files are."""

    def described(benchmark: Benchmark, *, text: str = "Which?", answer: str = "A", num_shots: int = 1) -> str:
        shots = {"law": [question(answer=answer)] * num_shots}
        return benchmark.describe({"law": [question(text=text)]}, shots)["data_sha256"]

    changed = [
        described(MMLU),
        described(MMLU, text="What?"),
        described(MMLU, answer="B"),
        described(MMLU, num_shots=2),
    ]
    assert len(set(changed)) == 4 and described(MMLU) == changed[0]
