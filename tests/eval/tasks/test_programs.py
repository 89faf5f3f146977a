"""Programs judged in the sandbox of this machine."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import pytest

from qianwen.eval.published import published_tables
from qianwen.eval.task import Answer
from qianwen.eval.tasks.programs import Judge, pass_at_k

TESTS = "assert double(3) == 6"
RIGHT = "def double(x):\n    return 2 * x\n"


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge("auto")


@pytest.mark.parametrize(
    ("program", "result"),
    [
        (RIGHT, "passed"),
        (f"{RIGHT}print('said', end='')\n", "passed"),
        ("def double(x):\n    return x\n", "AssertionError"),
        ("def double(x):\n    return y\n", "NameError"),
        ("def double(x)\n", "SyntaxError"),
        ("import json\ndef double(x):\n    return json.loads('{')\n", "JSONDecodeError"),
        ("class Odd(Exception):\n    pass\ndef double(x):\n    raise Odd('two\\nlines: here')\n", "Odd"),
        ("def double(x):\n    return double(x)\n", "RecursionError"),
        ("def double(x):\n    return int(input())\n", "EOFError"),
        ("def double(x):\n    raise SystemExit\n", "ended before its tests"),
        ("import os\ndef double(x):\n    os._exit(0)\n", "ended before its tests"),
        ("def double(x):\n    return 'x' * (1 << 40)\n", "memory"),
        ("def double(x):\n    while True:\n        print('x' * 1000)\n", "too much output"),
        ("def double(x):\n    open('/etc/written', 'w')\n", "blocked"),
        ("import os, signal\ndef double(x):\n    os.kill(os.getpid(), signal.SIGKILL)\n", "killed"),
    ],
)
def test_what_happened_has_a_name(judge: Judge, program: str, result: str) -> None:
    assert judge.run(program, TESTS).startswith(result)


def test_a_program_that_never_ends_is_stopped_by_its_processor_time(
    judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qianwen.eval.tasks import programs
    from qianwen.sandbox.limits import Limits

    monkeypatch.setattr(programs, "LIMITS", Limits(cpu_seconds=1, wall_seconds=60))
    assert judge.run("def double(x):\n    while True:\n        pass\n", TESTS) == "timeout"


def test_threads_share_a_judge(judge: Judge) -> None:
    programs = [RIGHT, "def double(x):\n    return x\n"] * 4
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda each: judge.run(each, TESTS), programs)) == ["passed", "AssertionError"] * 4


def test_the_row_has_the_program_that_passed_and_what_happened(judge: Judge) -> None:
    texts = ["    return x\n", "    return 2 * x\n"]
    answer = Answer(text=texts[0], further=(Answer(text=texts[1]),))
    score = judge.score(answer, TESTS, lambda text: f"def double(x):\n{text}")
    assert score.shares == {"pass_at_1": (0.5, 1)} and score.verdict == "right"
    assert score.extracted == f"{RIGHT}\n# passed\n"
    wrong = judge.score(Answer(text=texts[0]), TESTS, lambda text: f"def double(x):\n{text}")
    assert wrong.verdict == "wrong" and wrong.extracted == "def double(x):\n    return x\n\n# AssertionError\n"
    nothing = judge.score(Answer(text="no"), TESTS, lambda text: None)
    assert nothing.verdict == "unparsed" and nothing.shares == {"pass_at_1": (0, 1)}


@pytest.mark.parametrize(("num_samples", "num_passed", "k"), [(5, 0, 1), (5, 2, 1), (5, 2, 3), (6, 5, 2), (4, 4, 4)])
def test_pass_at_k_is_the_share_of_subsets_with_a_passing_sample(num_samples: int, num_passed: int, k: int) -> None:
    subsets = list(combinations(range(num_samples), k))
    expected = sum(min(subset) < num_passed for subset in subsets) / len(subsets)
    assert pass_at_k(num_samples, num_passed, k) == pytest.approx(expected)


def test_k_is_at_most_the_number_of_samples(judge: Judge) -> None:
    answer = Answer(text=RIGHT, further=(Answer(text="def double(x):\n    return 0\n"),) * 9)
    assert judge.score(answer, TESTS, lambda text: text).shares == {
        "pass_at_1": pytest.approx((0.1, 1)),
        "pass_at_10": (1, 1),
    }


@pytest.mark.parametrize("document", ["memo", "models"])
def test_the_published_tables_read_the_metric_that_the_tasks_have(judge: Judge, document: str) -> None:
    tasks = {"humaneval", "humaneval-chat", "mbpp"}
    columns = [column for table in published_tables(document) for column in table.columns if tasks & set(column.tasks)]
    assert columns and {column.metric for column in columns} == set(
        judge.score(Answer(), TESTS, lambda text: None).shares
    )
