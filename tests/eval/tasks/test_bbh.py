"""BBH's layout with ten rows of our own in two tasks."""

import json
import zipfile
from pathlib import Path

import pytest

from qianwen.eval.task import Answer, Scored, TaskOptions
from qianwen.eval.tasks.bbh import Bbh, stated_answer
from qianwen.runtime.errors import ConfigError, DataError

LOGIC = [
    ("not True is", "False"),
    ("not False is", "True"),
    ("True and False is", "False"),
    ("True or False is", "True"),
]
DATES = [(f"Which day comes after day {n}?\nOptions:\n(A) {n}\n(B) {n + 1}", "(B)") for n in range(6)]
PROMPT = (
    "A notice that nobody may train on this file.\n-----\nDo this task.\n\n"
    "Q: one?\nA: Let's think step by step.\nIt is so. So the answer is 1.\n\n"
    "Q: two?\nA: Let's think step by step.\nIt is so. So the answer is 2.\n\n"
    "Q: three?\nA: Let's think step by step.\nIt is so. So the answer is 3.\n"
)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for folder in ("bbh", "cot-prompts"):
        (tmp_path / folder).mkdir()
    for name, rows in {"logic": LOGIC, "dates": DATES}.items():
        examples = [{"input": question, "target": answer} for question, answer in rows]
        (tmp_path / "bbh" / f"{name}.json").write_text(json.dumps({"canary": "x", "examples": examples}))
        (tmp_path / "cot-prompts" / f"{name}.txt").write_text(PROMPT)
    return tmp_path


def test_tasks_take_turns_after_their_prompt_without_the_notice(data: Path) -> None:
    examples = list(Bbh(TaskOptions(data=data)).examples())
    assert [example.facts["task"] for example in examples] == ["dates", "logic"] * 4 + ["dates"] * 2
    shown = PROMPT.partition("-----\n")[2].rstrip("\n")
    assert examples[1].prompt == f"{shown}\n\nQ: not True is\nA: Let's think step by step.\n"


def test_an_archive_is_read_like_its_folder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    archive = tmp_path_factory.mktemp("packed") / "bbh.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        for path in data.rglob("*.*"):
            packed.write(path, Path("BIG-Bench-Hard-main") / path.relative_to(data))
    assert list(Bbh(TaskOptions(data=archive.parent)).examples()) == list(Bbh(TaskOptions(data=data)).examples())


def test_the_result_is_the_mean_over_tasks(data: Path) -> None:
    task = Bbh(TaskOptions(data=data))
    scored = []
    for example in task.examples():
        answer = Answer(text="So the answer is (B)." if example.facts["task"] == "dates" else "So the answer is False.")
        scored.append(Scored(example, answer, task.score(example, answer)))
    estimates = task.estimates(scored)
    assert next(iter(estimates)) == "accuracy" and estimates["accuracy"].value == pytest.approx(0.75)
    assert estimates["accuracy/logic"].value == 0.5 and estimates["accuracy"].num_examples == 10


@pytest.mark.parametrize(
    ("text", "target", "answer"),
    [
        ("It is so. So the answer is True.", "True", "True"),
        ("So the answer is (B).", "(B)", "(B)"),
        ("So the answer is (B) 7.", "(B)", "(B)"),
        ("the answer is B", "(B)", "(B)"),
        ("The answer is 1. Now again: the answer is -12.", "-12", "-12"),
        ("So the answer is apple banana cherry.\nQ", "apple banana cherry", "apple banana cherry"),
        ("So the answer is **valid**.", "valid", "valid"),
        ("So the answer is ] ).", "] )", "] )"),
        ("So the answer is Both.", "(B)", "Both"),
        ("It is seven.", "7", None),
    ],
)
def test_the_answer_is_what_the_reply_states(text: str, target: str, answer: str | None) -> None:
    assert stated_answer(text, target) == answer


@pytest.mark.parametrize(("shots", "questions"), [(0, 1), (1, 2), (3, 4)])
def test_fewer_examples_can_be_shown(data: Path, shots: int, questions: int) -> None:
    example = next(iter(Bbh(TaskOptions(data=data, shots=shots)).examples()))
    assert example.prompt.count("Q: ") == questions


def test_what_is_missing_is_named(data: Path) -> None:
    with pytest.raises(ConfigError, match="3 worked examples"):
        list(Bbh(TaskOptions(data=data, shots=4)).examples())
    (data / "cot-prompts" / "logic.txt").write_text("A task.\n\nQ: one?\nA: 1\n")
    with pytest.raises(DataError, match=r"logic\.txt has 1"):
        list(Bbh(TaskOptions(data=data)).examples())
    (data / "cot-prompts" / "logic.txt").unlink()
    with pytest.raises(DataError, match=r"cot-prompts/logic\.txt"):
        list(Bbh(TaskOptions(data=data)).examples())


@pytest.mark.parametrize(
    "text", ["{}", "[]", "no JSON", '{"examples": []}', '{"examples": [{"input": "x", "target": 1}]}']
)
def test_a_broken_file_is_named(data: Path, text: str) -> None:
    (data / "bbh" / "dates.json").write_text(text)
    with pytest.raises(DataError, match=r"dates\.json"):
        list(Bbh(TaskOptions(data=data)).examples())
