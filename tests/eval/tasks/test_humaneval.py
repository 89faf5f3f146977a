"""HumanEval's layout with three tasks of our own."""

from pathlib import Path

import pytest

from qianwen.eval.task import Answer, TaskOptions
from qianwen.eval.tasks.humaneval import HumanEval, HumanEvalChat, instruction
from qianwen.runtime.errors import DataError
from qianwen.runtime.files import write_jsonl

PROMPTS = {
    "double": "from typing import List\n\n\ndef double(xs: List[int]) -> List[int]:\n"
    '    """ Twice each of xs.\n    >>> double([1])\n    [2]\n    """\n',
    "half": "def helper(x):\n    return x / 2\n\n\ndef half(x):\n    '''\n    Half of x.\n    '''\n",
    "nothing": "def nothing():\n",
}
TESTS = {
    "double": "def check(candidate):\n    assert candidate([1, 2]) == [2, 4]\n",
    "half": "def check(candidate):\n    assert candidate(3) == 1.5\n",
    "nothing": "def check(candidate):\n    assert candidate() is None\n",
}
BODIES = {
    "double": "    return [2 * x for x in xs]\n",
    "half": "    return helper(x)\n",
    "nothing": "    return None\n",
}
ROWS = [{"task_id": f"Own/{i}", "prompt": p, "entry_point": n, "test": TESTS[n], "canonical_solution": BODIES[n]}
        for i, (n, p) in enumerate(PROMPTS.items())]  # fmt: skip


@pytest.fixture
def options(tmp_path: Path) -> TaskOptions:
    write_jsonl(tmp_path / "HumanEval.jsonl.gz", ROWS)
    return TaskOptions(data=tmp_path)


def test_a_base_model_gets_the_prompt_and_its_completion_is_judged(options: TaskOptions) -> None:
    task = HumanEval(options)
    examples = list(task.examples())
    assert [example.prompt for example in examples] == list(PROMPTS.values())
    assert examples[0].stop == ("<|endoftext|>", "\n\n\n", "\n\n", "def ") and not examples[0].sampling
    for example, row in zip(examples, ROWS, strict=True):
        right = task.score(example, Answer(text=row["canonical_solution"]))
        wrong = task.score(example, Answer(text="    return 0\n"))
        assert (right.verdict, right.shares) == ("right", {"pass_at_1": (1, 1)})
        assert (wrong.verdict, wrong.shares) == ("wrong", {"pass_at_1": (0, 1)})
        assert wrong.extracted is not None and wrong.extracted.endswith("# AssertionError\n")


def test_the_instruction_is_that_of_humanevalpack(options: TaskOptions) -> None:
    first, second, third = (example.messages[0].text for example in HumanEvalChat(options).examples())
    assert first == (
        "Write a Python function `double(xs: List[int]) -> List[int]` to solve the following problem:\n"
        f"Twice each of xs.\n>>> double([1])\n[2]\n{PROMPTS['double']}"
    )
    assert second.startswith(
        "Write a Python function `half(x)` to solve the following problem:\nHalf of x.\ndef helper"
    )
    assert third.startswith("Write a Python function `nothing()` to solve the following problem:\n\ndef nothing")


def test_a_chat_reply_is_judged_with_what_its_prompt_defines(options: TaskOptions) -> None:
    task = HumanEvalChat(options)
    double, half, _ = task.examples()
    reply = "```python\ndef double(xs: List[int]) -> List[int]:\n    return [2 * x for x in xs]\n\nprint(input())\n```"
    assert task.score(double, Answer(text=reply)).verdict == "right"
    assert task.score(half, Answer(text="```python\ndef half(x):\n    return helper(x)\n```")).verdict == "right"
    assert task.score(half, Answer(text="```python\ndef half(x):\n    return x\n```")).verdict == "wrong"
    assert task.score(half, Answer(text="I cannot do this.")).verdict == "unparsed"


@pytest.mark.parametrize(
    ("samples", "decoding"), [(1, "greedy"), (10, {"temperature": 0.8, "top_p": 0.95, "seed": 1234})]
)
def test_several_samples_are_drawn(tmp_path: Path, options: TaskOptions, samples: int, decoding: object) -> None:
    task = HumanEval(TaskOptions(data=options.data, num_samples=samples))
    example = next(iter(task.examples()))
    assert example.num_samples == samples and bool(example.sampling) == (samples > 1)
    settings = task.settings()
    assert settings["decoding"] == decoding and settings["samples"] == samples and settings["sandbox"]


def test_the_chat_protocol_names_its_reader(options: TaskOptions) -> None:
    settings = HumanEvalChat(options).settings()
    assert settings["extractor"]["name"] == "code_block" and settings["stop"] == []


@pytest.mark.parametrize("broken", [{"entry_point": "absent"}, {"prompt": "def ("}, {"test": 3}, {"task_id": None}])
def test_a_row_that_cannot_be_asked_is_named(tmp_path: Path, broken: dict) -> None:
    write_jsonl(tmp_path / "HumanEval.jsonl", [ROWS[0], ROWS[1] | broken])
    with pytest.raises(DataError, match="row 2"):
        list(HumanEval(TaskOptions(data=tmp_path)).examples())


def test_missing_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="HumanEval"):
        list(HumanEval(TaskOptions(data=tmp_path)).examples())


def test_the_docstring_of_a_prompt_may_be_absent_or_of_one_line() -> None:
    assert instruction('def f(x):\n    """ One line. """\n', "f").startswith("Write a Python function `f(x)`")
    assert "\nOne line.\n" in instruction('def f(x):\n    """ One line. """\n', "f")
