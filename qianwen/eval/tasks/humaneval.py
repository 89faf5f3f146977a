"""HumanEval (Chen et al., 2021): 164 functions to write from their signature and docstring, judged by running tests.

    humaneval        the prompt alone, continued up to the next function         base models
    humaneval-chat   the instruction of HumanEvalPack, answered with a program   chat models

Both as in Qwen's released scripts: greedy, pass@1. `num_samples` > 1 draws samples and adds pass@10 and pass@100.
What a reply's program is, and where that differs from the released script, is in `assemble.py`.
"""

import ast
import inspect
from collections.abc import Iterable, Mapping
from typing import Any

from qianwen.chat.messages import Message
from qianwen.eval.data_files import find, json_rows
from qianwen.eval.reader_cases.rates import extractor
from qianwen.eval.task import Answer, Complete, Generate, Score, Task, TaskOptions
from qianwen.eval.tasks.assemble import assemble
from qianwen.eval.tasks.programs import Judge, decoding, decoding_settings
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

NAMES = ("HumanEval.jsonl", "humaneval/HumanEval.jsonl", "human_eval/data/HumanEval.jsonl", "humaneval.jsonl")
FIELDS = ("task_id", "prompt", "entry_point", "test")
STOPS = ("<|endoftext|>", "\n\n\n", "\n\n", "def ")
INSTRUCTION = "Write a Python function `{signature}` to solve the following problem:\n{docstring}\n{prompt}"
MAX_TOKENS = 512


class HumanEval(Task):
    """The prompts as they are, for a base model."""

    name = "humaneval"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.judge = Judge(options.sandbox)

    def examples(self) -> Iterable[Complete | Generate]:
        self.judge.open()  # refuse before the first question
        path = find(self.options.data, NAMES)
        for number, row in enumerate(json_rows(path, dict.fromkeys(FIELDS, str)), start=1):
            if _function(row["prompt"], row["entry_point"]) is None:
                message = "{path}, row {number}: the prompt does not define `{name}`"
                raise DataError(tr(message, path=path, number=number, name=row["entry_point"]))
            yield self.example({name: row[name] for name in FIELDS})

    def example(self, facts: Mapping[str, str]) -> Complete | Generate:
        """One question."""
        return Complete(
            prompt=facts["prompt"], stop=STOPS, max_tokens=MAX_TOKENS, facts=facts, **decoding(self.options)
        )

    def program(self, facts: Mapping[str, str], text: str) -> str | None:
        """The program of a sample."""
        return facts["prompt"] + text

    def score(self, example: Complete | Generate, answer: Answer) -> Score:
        facts = example.facts
        tests = f"{facts['test']}\n\ncheck({facts['entry_point']})"
        return self.judge.score(answer, tests, lambda text: self.program(facts, text))

    def settings(self) -> dict[str, Any]:
        protocol = {"protocol": "base", "template": "{prompt}", "stop": list(STOPS), "max_tokens": MAX_TOKENS}
        return protocol | {"shots": 0} | decoding_settings(self.options) | self.judge.settings()


class HumanEvalChat(HumanEval):
    """The same functions, asked for in words."""

    name = "humaneval-chat"

    def example(self, facts: Mapping[str, str]) -> Generate:
        message = Message("user", instruction(facts["prompt"], facts["entry_point"]))
        return Generate(messages=[message], max_tokens=MAX_TOKENS, facts=facts, **decoding(self.options))

    def program(self, facts: Mapping[str, str], text: str) -> str | None:
        return assemble(facts["prompt"], text, facts["entry_point"])

    def settings(self) -> dict[str, Any]:
        protocol = {"protocol": "chat", "template": INSTRUCTION, "stop": [], "extractor": extractor("code_block")}
        return super().settings() | protocol


def instruction(prompt: str, entry_point: str) -> str:
    """The request of HumanEvalPack (Muennighoff et al., 2023): signature and docstring in words, then the prompt."""
    function = _function(prompt, entry_point)
    assert function is not None
    signature = prompt.splitlines()[function.lineno - 1].strip().removeprefix("def ").removesuffix(":")
    docstring = inspect.cleandoc(ast.get_docstring(function, clean=False) or "").strip()
    return INSTRUCTION.format(signature=signature, docstring=docstring, prompt=prompt)


def _function(prompt: str, entry_point: str) -> ast.FunctionDef | None:
    """The function that `prompt` begins to define; a prompt without a docstring has no body yet."""
    for text in (prompt, prompt + "\n    pass"):
        try:
            body = ast.parse(text).body
        except SyntaxError:
            continue
        for node in reversed(body):
            if isinstance(node, ast.FunctionDef) and node.name == entry_point:
                return node
    return None
