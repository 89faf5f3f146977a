"""Programs out of replies: each is executed here, since all are written here."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qianwen.eval.tasks.assemble import assemble

PROMPT = (
    "from typing import List\nimport math\n\n\ndef double(x):\n    return 2 * x\n\n\n"
    'def total(xs: List[int]) -> int:\n    """ Twice the sum. """\n'
)
WHOLE = "def total(xs: List[int]) -> int:\n    return double(sum(xs))\n"


def run(reply: str, argument: object = (1, 2)) -> object:
    program = assemble(PROMPT, reply, "total")
    assert program is not None
    space: dict = {}
    exec(program, space)
    return space["total"](argument)


@pytest.mark.parametrize(
    "reply",
    [
        f"```python\n{WHOLE}```",
        f"```python\n{WHOLE}\nprint(total(input()))\nassert total([1]) == 5\n```",
        f"```python\n{WHOLE}\nif __name__ == '__main__':\n    raise SystemExit\n```",
        f"```python\nn = int(input())\n{WHOLE}\nfor n in range(int(input())):\n    print(total(n))\n```",
        f"```python\nimport unittest\n{WHOLE}\nclass Test(unittest.TestCase):\n    pass\n\nunittest.main()\n```",
        f"```python\nimport nowhere\nfrom nowhere import nothing\n{WHOLE}```",
        "```python\n    return double(sum(xs))\n```",
        "return double(sum(xs))",
        "```python\n    def inner(ys):\n        return sum(ys)\n\n    return double(inner(xs))\n```",
        "def inner(ys):\n        return sum(ys)\n\n    return double(inner(xs))",
        "answer = 0\n    for x in xs:\n        answer += double(x)\n    return answer",
        "```python\nclass Solution:\n    def total(self, xs):\n        return double(sum(xs))\n```",
        "```python\ndef Total(xs):\n    return double(sum(xs))\n```",
        f"Here is the function:\n\n{WHOLE}\nIt calls `double`, which is given.",
        "```python\nFACTOR = 2\ndef total(xs):\n    return FACTOR * add(xs)\n```\nwith\n"
        "```python\ndef add(xs):\n    return sum(xs)\n```",
        "```python\nfrom __future__ import annotations\ndef total(xs: Unknown) -> Missing:\n"
        "    return double(sum(xs))\n```",
        "```python\nmemo = {}\nmemo[2] = 6\ndef total(xs):\n    return memo[2]\n```",
        "```python\ntable = []\nfor i in range(4):\n    table.append(2 * i)\n"
        "def total(xs):\n    return table[sum(xs)]\n```",
        "```python\nimport math; import operator\ndef total(xs):\n    return operator.mul(2, sum(xs))\n```",
        "```python\nfrom math import *\ndef total(xs):\n    return floor(6.5)\n```",
        "```python\ntry:\n    from nowhere import add\nexcept ImportError:\n    def add(xs):\n        return sum(xs)\n"
        "def total(xs):\n    return 2 * add(xs)\n```",
        "```python\n@staticmethod\ndef total(xs):\n    return 6\n```",
        "```python\ntotal = lambda xs: 2 * sum(xs)\n```",
        "```python\nimport sys\nsys.setrecursionlimit(5000)\ndef total(xs):\n    return 6\n```",
        f"```python\n{WHOLE}\nprint('cut in a string",
    ],
)
def test_every_form_of_a_right_answer_gives_6(reply: str) -> None:
    assert run(reply) == 6


def test_a_recursion_limit_is_set_before_the_function_runs() -> None:
    program = assemble(
        PROMPT, "```python\nimport sys\nsys.setrecursionlimit(5000)\ndef total(x):\n    return x\n```", "total"
    )
    assert program is not None and "sys.setrecursionlimit(5000)" in program and "import sys" in program


def test_helpers_of_the_reply_hide_those_of_the_prompt() -> None:
    assert run("```python\ndef double(x):\n    return 100\ndef total(xs):\n    return double(xs)\n```") == 100


def test_a_program_that_python_cannot_read_is_a_program_all_the_same() -> None:
    program = assemble(PROMPT, "```python\ndef total(xs)\n    return 1\n```", "total")
    assert program is not None and program.endswith("def total(xs)\n    return 1\n")


@pytest.mark.parametrize(
    "reply", ["", "   \n", "I cannot write this function.", "```python\n\n```", "```text\nno code here\n```"]
)
def test_a_reply_without_code_has_no_program(reply: str) -> None:
    assert assemble(PROMPT, reply, "total") is None


@given(st.text(alphabet="`def total(x):\n =1\"'#>", max_size=80))
def test_no_reply_is_an_error(reply: str) -> None:
    program = assemble(PROMPT, reply, "total")
    assert program is None or program.strip()
