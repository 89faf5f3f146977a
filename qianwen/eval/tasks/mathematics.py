r"""Word problems (GSM8K, Cobbe et al., 2021) and competition mathematics (MATH, Hendrycks et al., 2021).

    gsm8k              8 worked examples, then the question                base models
    gsm8k-chat         the question alone                                  chat models
    gsm8k-chat-4shot   4 worked examples and the question in one message   chat models
    math               4 worked examples, then the problem                 base models; answers in \boxed{…}

GSM8K is as in Qwen's released scripts: the form of an example, the stops, the last number, equal within 10⁻⁴. The eight
examples of the release are not published with it, so ours are the first rows of the training file, as the settings of a
result say. Base and chat answers are read alike (`chat/answers.py`); the release takes the last digits of a base
answer, which reads 1,000 and 18.00 as 0.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

from qianwen.chat.answers import boxed, final_number, is_right_number, reference_number
from qianwen.chat.messages import Message
from qianwen.eval.data_files import find, json_rows, members
from qianwen.eval.metrics import Share
from qianwen.eval.reader_cases.rates import extractor
from qianwen.eval.task import Answer, Complete, Generate, Score, Task, TaskOptions
from qianwen.eval.tasks.latex_equality import is_same_formula
from qianwen.runtime.errors import DataError
from qianwen.runtime.translation import tr

MAX_TOKENS = 512  # what the released generation config allows
GSM8K_STOPS = ("<|endoftext|>", "\n\n\n", "\n\n", "Question:")
GSM8K_QUESTION = "Question: {question}\nLet's think step by step\n"
MATH_STOPS = ("<|endoftext|>", "\n\nProblem:", "Problem:")
MATH_QUESTION = "Problem:\n{problem}\n\nSolution:"
STATED = re.compile(r"(?:final )?answer is:?\s*(.+?)\.?\s*$", re.I | re.M)


def training_folder(data: Path) -> Path:
    """Where the worked examples are, if `data` is the file of the questions."""
    return data.parent if data.is_file() else data


def check_shots(rows: Sequence[Any], number: int, path: Path) -> None:
    """DataError if there are too few worked examples."""
    if len(rows) < number:
        message = "{path} has {count} worked examples, but {number} are needed; see --shots"
        raise DataError(tr(message, path=path, count=len(rows), number=number))


# ---- GSM8K -------------------------------------------------------------------------------------------------------


class Gsm8k(Task):
    """JSON lines with `question` and `answer`, which ends in `#### N`; for base models."""

    name = "gsm8k"
    published_shots = 8
    protocol = "base"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options

    @property
    def num_shots(self) -> int:
        return self.published_shots if self.options.shots is None else self.options.shots

    @cached_property
    def shots(self) -> str:
        """The worked examples, each followed by a blank line."""
        if not self.num_shots:
            return ""
        path = find(training_folder(self.options.data), _gsm8k_names("train"))
        rows = list(_gsm8k_rows(path))[: self.num_shots]
        check_shots(rows, self.num_shots, path)
        return "".join(f"{_worked_example(question, answer)}\n\n" for question, answer in rows)

    def examples(self) -> Iterable[Complete | Generate]:
        for question, answer in _gsm8k_rows(find(self.options.data, _gsm8k_names("test"))):
            yield self.example(question, {"target": answer})

    def example(self, question: str, facts: dict[str, str]) -> Complete | Generate:
        """One question."""
        prompt = self.shots + GSM8K_QUESTION.format(question=question)
        return Complete(prompt=prompt, stop=GSM8K_STOPS, max_tokens=MAX_TOKENS, facts=facts)

    def score(self, example: Complete | Generate, answer: Answer) -> Score:
        is_right = is_right_number(answer.text, example.facts["target"])
        extracted = final_number(answer.text) or None
        return Score(shares={"exact_match": Share(float(is_right))}, extracted=extracted, is_right=is_right)

    def settings(self) -> dict[str, Any]:
        shots = f"rows 1 to {self.num_shots} of the training file, in this order" if self.num_shots else "none"
        return {
            "protocol": f"{self.protocol}, {self.num_shots}-shot",
            "template": GSM8K_QUESTION if self.num_shots or self.protocol == "base" else "{question}",
            "shots": {"source": shots, "text": self.shots},
            "stop": list(GSM8K_STOPS) if self.protocol == "base" else [],
            "max_tokens": MAX_TOKENS,
            "decoding": "greedy",
            "extractor": extractor("final_number"),
        }


class Gsm8kChat(Gsm8k):
    """The question as a user's message: alone, or after worked examples in the same message."""

    name = "gsm8k-chat"
    published_shots = 0
    protocol = "chat"

    def example(self, question: str, facts: dict[str, str]) -> Generate:
        text = self.shots + GSM8K_QUESTION.format(question=question) if self.num_shots else question
        return Generate(messages=[Message("user", text)], max_tokens=MAX_TOKENS, facts=facts)


class Gsm8kChat4Shot(Gsm8kChat):
    """The released script with `--use-fewshot`."""

    name = "gsm8k-chat-4shot"
    published_shots = 4


def _gsm8k_names(split: str) -> tuple[str, ...]:
    return (f"gsm8k_{split}.jsonl", f"gsm8k/{split}.jsonl", f"{split}.jsonl", f"gsm8k/main/{split}.jsonl")


def _gsm8k_rows(path: Path) -> Iterator[tuple[str, str]]:
    """Question and solution of each row."""
    for number, row in enumerate(json_rows(path, {"question": str, "answer": str}), start=1):
        if not reference_number(row["answer"]):
            raise DataError(tr("{path}, row {number}: `answer` contains no number", path=path, number=number))
        yield row["question"], row["answer"]


def _worked_example(question: str, answer: str) -> str:
    """A question with its solution; the annotations `<<48/2=24>>` of the data are for a calculator."""
    solution = re.sub(r"<<.*?>>", "", answer.partition("####")[0]).strip()
    return f"{GSM8K_QUESTION.format(question=question)}{solution}\nThe answer is {reference_number(answer)}"


# ---- MATH --------------------------------------------------------------------------------------------------------


class Math(Task):
    r"""Problems whose solutions end in \boxed{…}, by type and level.

    Layouts: `test/TYPE/N.json` with `problem`, `solution`, `level` and `type`, in a folder or archive, or the same
    fields as JSON lines. A run of the first N asks about every type alike.
    """

    name = "math"

    def __init__(self, options: TaskOptions) -> None:
        self.options = options
        self.num_shots = 4 if options.shots is None else options.shots

    @cached_property
    def shots(self) -> str:
        """The worked examples, each followed by a blank line."""
        if not self.num_shots:
            return ""
        rows = _in_turns(_math_rows(training_folder(self.options.data), "train"))
        check_shots(rows, self.num_shots, self.options.data)
        worked = (f"{MATH_QUESTION.format(problem=row['problem'])} {row['solution']}" for row in rows[: self.num_shots])
        return "".join(f"{each}\n\n" for each in worked)

    def examples(self) -> Iterable[Complete]:
        for row in _in_turns(_math_rows(self.options.data, "test")):
            facts = {"target": boxed(row["solution"]), "type": row["type"], "level": row["level"]}
            prompt = self.shots + MATH_QUESTION.format(problem=row["problem"])
            yield Complete(prompt=prompt, stop=MATH_STOPS, max_tokens=MAX_TOKENS, facts=facts)

    def score(self, example: Complete, answer: Answer) -> Score:
        stated = STATED.findall(answer.text)
        extracted = boxed(answer.text) or (stated[-1] if stated else "")
        share = Share(float(bool(extracted) and is_same_formula(extracted, example.facts["target"])))
        shares = {"exact_match": share, f"exact_match/{example.facts['type']}": share}
        return Score(shares=shares, extracted=extracted or None, is_right=bool(share.amount))

    def settings(self) -> dict[str, Any]:
        shots = f"problems 1 to {self.num_shots} of the training files, types in turn" if self.num_shots else "none"
        return {
            "protocol": f"base, {self.num_shots}-shot",
            "template": MATH_QUESTION,
            "shots": {"source": shots, "text": self.shots},
            "stop": list(MATH_STOPS),
            "max_tokens": MAX_TOKENS,
            "decoding": "greedy",
            "extractor": extractor("boxed"),
        }


def _math_rows(data: Path, split: str) -> list[dict[str, str]]:
    """The problems of a split, in the order of their files."""
    fields = dict.fromkeys(("problem", "solution", "level", "type"), str)
    folders = ("MATH.zip", "MATH.tar", "MATH")
    path = find(data, (f"math_{split}.jsonl", f"math/{split}.jsonl", *folders), inside=(f"{split}/*/*.json",))
    if path.is_dir() or path.suffix in (".zip", ".tar"):
        rows = [_math_problem(f"{path}/{name}", text) for name, text in members(path, f"{split}/*/*.json")]
    else:
        rows = [_check_math(f"{path}, row {i}", row) for i, row in enumerate(json_rows(path, fields), start=1)]
    if not rows:
        raise DataError(tr("{path} contains no file {expected}", path=path, expected=f"{split}/TYPE/N.json"))
    return rows


def _math_problem(name: str, text: str) -> dict[str, str]:
    try:
        return _check_math(name, json.loads(text))
    except ValueError as error:
        raise DataError(tr("{path} could not be read: {error}", path=name, error=error)) from error


def _check_math(name: str, row: Any) -> dict[str, str]:
    fields = ("problem", "solution", "level", "type")
    if not isinstance(row, dict) or not all(isinstance(row.get(each), str) for each in fields):
        message = "{path} must have the fields {fields}, all text"
        raise DataError(tr(message, path=name, fields=", ".join(fields)))
    if not boxed(row["solution"]):
        raise DataError(tr("{path}: `solution` has no \\boxed answer", path=name))
    return row


def _in_turns(rows: Iterable[dict[str, str]]) -> list[dict[str, str]]:
    """The first problem of each type, then the second of each, and so on."""
    types: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        types.setdefault(row["type"], []).append(row)
    return [row for row in chain.from_iterable(zip_longest(*types.values())) if row]
