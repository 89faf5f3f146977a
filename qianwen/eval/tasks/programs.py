"""Programs that a model wrote, run with the tests of a task in the sandbox; pass@k (Chen et al., 2021, section 2.1).

    program, tests, a line that prints a secret word → the sandbox → passed: the word was printed

A program that ends its process before the last test does not pass. The row of an answer says what happened:

    passed · AssertionError, NameError, … (the exception that ended it) · timeout · memory · too much output ·
    blocked (by the sandbox) · ended before its tests · killed

    pass@k = mean over tasks of 1 - C(n - c, k) / C(n, k)      n samples of a task, of which c pass

The limit of time counts processor time, so a busy machine changes no verdict.
"""

import math
import os
import re
import secrets
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

from qianwen.eval.metrics import Share
from qianwen.eval.task import Answer, Score, TaskOptions
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Outcome, Sandbox

LIMITS = Limits(cpu_seconds=10, wall_seconds=120)  # a program that waits for nothing ends by the second limit alone
AT_ONCE = os.cpu_count() or 1  # programs that run at the same time
PASS_AT = (1, 10, 100)
SAMPLING = {"temperature": 0.8, "top_p": 0.95, "seed": 1234}  # as Chen et al. draw 100 samples; one is greedy
EXCEPTION = re.compile(r"^(?:\w+\.)*([A-Za-z_]\w*)(?::|$)")
BLOCKED = re.compile("Permission denied|Operation not permitted|Read-only file system|Network is unreachable")
WORDS = {"timeout": "timeout", "memory": "memory", "output": "too much output"}


class Judge:
    """Runs programs with their tests. Threads may share it; a few programs run at the same time."""

    def __init__(self, sandbox: str) -> None:
        self.name = sandbox
        self._sandbox: Sandbox | None = None
        self._opening = threading.Lock()
        self._slots = threading.BoundedSemaphore(AT_ONCE)

    def open(self) -> Sandbox:
        """The sandbox, checked once. ConfigError if this machine offers no isolation."""
        with self._opening:
            self._sandbox = self._sandbox or Sandbox.open(
                cast(Any, self.name)
            )  # it refuses a name that it does not know
            return self._sandbox

    def run(self, program: str, tests: str) -> str:
        """What happened to `program` when `tests` were run after it."""
        word, sandbox = secrets.token_hex(8), self.open()
        with self._slots:
            outcome = sandbox.run_python(f"{program}\n\n{tests}\n\nprint({word!r})\n", limits=LIMITS)
        return _result(outcome, word)

    def score(self, answer: Answer, tests: str, program: Callable[[str], str | None]) -> Score:
        """pass@k over the samples of `answer`; `program` makes a program of the text of a sample.

        The row has the program of the first sample that passes, else of the first, and what happened to it.
        """
        programs = [program(sample.text) for sample in answer.samples]
        with ThreadPoolExecutor(min(len(programs), AT_ONCE)) as pool:
            results = list(pool.map(lambda each: "" if each is None else self.run(each, tests), programs))
        passed = [result == "passed" for result in results]
        first = passed.index(True) if any(passed) else 0
        shown = programs[first]
        extracted = None if shown is None else f"{shown.rstrip()}\n\n# {results[first]}\n"
        shares = {f"pass_at_{k}": Share(pass_at_k(len(passed), sum(passed), k)) for k in PASS_AT if k <= len(passed)}
        return Score(shares=shares, extracted=extracted, is_right=any(passed))

    def settings(self) -> dict[str, Any]:
        """What a result says about how programs were run."""
        return {"sandbox": self.open().backend, "cpu_seconds": LIMITS.cpu_seconds, "memory_bytes": LIMITS.memory_bytes}


def pass_at_k(num_samples: int, num_passed: int, k: int) -> float:
    """The chance that at least one of `k` samples passes, estimated without bias from `num_samples` ≥ k."""
    return 1.0 - math.comb(num_samples - num_passed, k) / math.comb(num_samples, k)


def decoding(options: TaskOptions) -> dict[str, Any]:
    """The arguments of an example for one greedy answer, or for several drawn ones."""
    return {} if options.num_samples == 1 else {"num_samples": options.num_samples, "sampling": SAMPLING}


def decoding_settings(options: TaskOptions) -> dict[str, Any]:
    """The same as a result says it."""
    return {"samples": options.num_samples, "decoding": SAMPLING if options.num_samples > 1 else "greedy"}


def _result(outcome: Outcome, word: str) -> str:
    if outcome.status in WORDS:
        return WORDS[outcome.status]
    if outcome.status == "killed":
        return "killed"
    if outcome.status == "ok":
        return "passed" if outcome.stdout.rstrip().endswith(word) else "ended before its tests"
    return _exception(outcome.stderr.splitlines())


def _exception(lines: Sequence[str]) -> str:
    """The name of the exception that ended a program: the last line of its traceback that begins with one."""
    begin = max((i for i, line in enumerate(lines) if line.startswith(("Traceback", "  File"))), default=len(lines))
    for line in lines[begin:]:
        if (match := EXCEPTION.match(line)) and match[1] != "Traceback":
            return f"blocked ({match[1]})" if BLOCKED.search(line) else match[1]
    return "ended before its tests"
