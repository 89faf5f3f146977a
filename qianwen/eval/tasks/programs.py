"""Programs that a model wrote, run with the tests of a task in the sandbox, and pass@k (Chen et al., 2021, section 2.1).

    program, tests, a line that prints a secret word → the sandbox → passed: the word was printed

A program that ends the process before the last test does not pass. What happened is one word for a page:

    passed · AssertionError, NameError, … (the exception that ended it) · timeout · memory · blocked · ended early

    pass@k = mean of 1 - C(n - c, k) / C(n, k)      n samples of a task, of which c pass

Time limits count processor time, so a busy machine changes no verdict.
"""

import math
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any, NamedTuple

from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Score, Task, TaskOptions
from qianwen.sandbox.sandbox import Outcome, Sandbox

SECONDS = 10  # of processor time; the longest test of HumanEval takes about one
PASS_AT = (1, 10, 100)
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "seed": 1234}  # Chen et al. draw so for pass@100
EXCEPTION = re.compile(r"^(?:\w+\.)*(\w+)(?::|$)")


class Trial(NamedTuple):
    """A program and what became of it; no program if the answer contains none."""

    program: str | None
    result: str

    @property
    def passed(self) -> bool:
        return self.result == "passed"
