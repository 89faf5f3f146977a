"""MBPP's two layouts with ten rows of our own."""

import json
from pathlib import Path

import pytest

from qianwen.eval.task import Answer, TaskOptions
from qianwen.eval.tasks.mbpp import Mbpp
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl

FUNCTIONS = {
    2: ("add", "return a + b", "add two numbers"),
    3: ("sub", "return a - b", "subtract two numbers"),
    4: ("mul", "return a * b", "multiply two numbers"),
    5: ("larger", "return max(a, b)", "find the larger number"),
    11: ("smaller", "return min(a, b)", "find the smaller number"),
    12: ("power", "return a ** b", "raise a number to a power"),
    13: ("rest", "return a % b", "find the rest of a division"),
    14: ("root", "return math.isqrt(a * b)", "find the root of a product"),
    15: ("pair", "return (a, b)", "make a pair"),
    600: ("same", "return a == b", "compare two numbers"),
}
VALUES = {"add": 9, "sub": 5, "mul": 14, "larger": 7, "smaller": 2, "power": 49, "rest": 1, "root": 3, "pair": (7, 2)}


def row(number: int, text: str = "text") -> dict:
    name, body, what = FUNCTIONS[number]
    code = f"def {name}(a, b):\r\n    {body}".replace("\r\n", "\n")
    tests = [f"assert {name}(7, 2) == {VALUES.get(name, False)}"]
    return {"task_id": number, text: f"Write a function to {what}.", "code": code, "test_list": tests}


@pytest.fixture(params=["mbpp.jsonl", "sanitized-mbpp.json"])
def data(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "mbpp.jsonl":
        write_jsonl(tmp_path / request.param, [row(n) | {"test_setup_code": "import math"} for n in FUNCTIONS])
    else:
        rows = [row(n, "prompt") | {"test_imports": ["import math"]} for n in FUNCTIONS]
        (tmp_path / request.param).write_text(json.dumps(rows))
    return tmp_path


def test_the_prompt_is_the_published_one(data: Path) -> None:
    examples = list(Mbpp(TaskOptions(data=data)).examples())
    assert [example.facts["task_id"] for example in examples] == [11, 12, 13, 14, 15]
    first = (
        "You are an expert Python programmer, and here is your task: Write a function to add two numbers. "
        "Your code should pass these tests:\n\nassert add(7, 2) == 9\n"
        "[BEGIN]\ndef add(a, b):\n    return a + b\n[DONE]\n\n"
    )
    assert examples[0].prompt.startswith(first) and examples[0].prompt.count("[DONE]") == 3
    assert examples[0].prompt.endswith("assert smaller(7, 2) == 2\n[BEGIN]\n") and "[DONE]" in examples[0].stop


def test_answers_are_judged_by_the_assertions(data: Path) -> None:
    task = Mbpp(TaskOptions(data=data))
    for example in task.examples():
        code = row(example.facts["task_id"])["code"]
        assert task.score(example, Answer(text=code + "\n")).verdict == "right"
        assert task.score(example, Answer(text=code.replace("return", "return 'wrong',"))).verdict == "wrong"
        assert task.score(example, Answer(text=" \n")).verdict == "unparsed"


@pytest.mark.parametrize(("shots", "numbers"), [(None, [2, 3, 4]), (0, []), (1, [2]), (4, [2, 3, 4, 5])])
def test_shots_are_the_tasks_of_the_authors_first(data: Path, shots: int | None, numbers: list[int]) -> None:
    task = Mbpp(TaskOptions(data=data, shots=shots))
    assert task.shots == numbers and task.settings()["shots"]["source"] == f"tasks {numbers}, in this order"


def test_what_is_missing_is_named(data: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="4 worked examples, but 9"):
        list(Mbpp(TaskOptions(data=data, shots=9)).examples())
    write_jsonl(tmp_path / "few.jsonl", [row(2), row(3), row(4), row(600)])
    with pytest.raises(DataError, match="11 to 510"):
        list(Mbpp(TaskOptions(data=tmp_path / "few.jsonl")).examples())


@pytest.mark.parametrize("broken", [{"code": None}, {"test_list": []}, {"text": 3}, {"test_list": "assert"}])
def test_a_broken_row_is_named(tmp_path: Path, broken: dict) -> None:
    write_jsonl(tmp_path / "mbpp.jsonl", [row(2), row(3) | broken])
    with pytest.raises(DataError, match="row 2"):
        list(Mbpp(TaskOptions(data=tmp_path)).examples())
