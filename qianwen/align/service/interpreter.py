"""Code interpreter: questions whose answer is computed by a program, which is really executed.

    compute    one program, its output, the answer that uses it
    repair     the first program fails, the output says why, the second one works

`execute` runs a program and returns what it printed (`sandbox_executor`); its output is the observation word for word.
A dialogue whose program did not end well is an error of `problems.py`, never training data.
"""

import random
from collections.abc import Callable
from typing import Any

from qianwen.align.service.problems import BREAKABLE, PROBLEMS
from qianwen.align.service.rows import call, calling, result, service_row
from qianwen.chat.messages import FunctionSpec, Message
from qianwen.sandbox.limits import Limits
from qianwen.sandbox.process import Sandbox

Execute = Callable[[str], tuple[bool, str]]  # a program → whether it ended well, and what it wrote
KINDS = ("interpreter, compute", "interpreter, repair")
LIMITS = Limits(cpu_seconds=5, wall_seconds=20)
MAX_OUTPUT = 1500  # characters
CODE = {"en": "Python code that prints its result", "zh": "待执行的 Python 代码，用 print 输出结果"}
ABOUT = {"en": "Runs Python code and returns what it prints.", "zh": "代码解释器，可用于执行Python代码。"}
THOUGHT = {"en": "I will compute this with Python.", "zh": "我用 Python 计算。"}
REPAIR = {"en": "The program failed ({error}). I will correct it.", "zh": "程序出错（{error}），我来改正。"}


def sandbox_executor(sandbox: Sandbox) -> Execute:
    """Runs programs in `sandbox`. Of a failed program the last line of its error is the output."""

    def execute(program: str) -> tuple[bool, str]:
        outcome = sandbox.run_python(program, limits=LIMITS)
        if outcome.status == "ok":
            return True, outcome.stdout[:MAX_OUTPUT].rstrip("\n")
        return False, outcome.stderr.rstrip().rpartition("\n")[2] or outcome.status

    return execute


class InterpreterDialogues:
    """Draws dialogues in one language; the same seed gives the same dialogues."""

    def __init__(self, language: str, execute: Execute, seed: int) -> None:
        self.language, self.execute = language, execute
        self.draw = random.Random(f"{seed}/{language}/interpreter")
        schema = {
            "type": "object",
            "properties": {"code": {"type": "string", "description": CODE[language]}},
            "required": ["code"],
        }
        self.tool = FunctionSpec("code_interpreter", ABOUT[language], schema)

    def row(self, kind: str) -> dict[str, Any]:
        """A new dialogue of a kind of `KINDS`."""
        problems = [problem for problem in PROBLEMS if kind == KINDS[0] or problem in BREAKABLE]
        problem = self.draw.choice(problems)(self.draw, self.language)
        messages = [Message("user", problem.question)]
        thought = THOUGHT[self.language]
        if kind == KINDS[1]:
            error = self._run(messages, thought, problem.broken, 1, ends_well=False)
            thought = REPAIR[self.language].format(error=error)
        output = self._run(messages, thought, problem.program, 2 if messages[1:] else 1, ends_well=True)
        messages.append(Message("assistant", problem.answer.format(*output.split("\n"))))
        row = service_row(messages, [self.tool], kind, self.language)
        if kind == KINDS[1]:
            row["messages"][1]["weight"] = 0  # the program with the error is read, not learned
        return row

    def _run(self, messages: list[Message], thought: str, program: str, number: int, *, ends_well: bool) -> str:
        """Add the call of a program and its output to `messages`."""
        made = call(number, self.tool.name, {"code": program})
        is_ok, output = self.execute(program)
        if is_ok != ends_well:
            raise RuntimeError(
                f"a program of the interpreter dialogues ended otherwise than written: {output}\n{program}"
            )
        messages += [calling(thought, made), result(made, output)]
        return output
